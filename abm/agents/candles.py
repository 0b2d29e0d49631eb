"""The candle quoter: one account that bids and offers along recorded candles, so that others trade against a real market's path.

It stands for all of that market: its ladder is centred where the candles say the price was, and moved by what others took from it, as a market is
that has traded with them. That impact fades. Without others the mid follows the candles; with them it is theirs as well.
"""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from abm.agents.base import Numbers, Population, trader
from abm.agents.replayer import FileConfig, read_table, refuse_far
from abm.agents.view import BPS, View
from abm.clock import Clock, Seconds
from abm.exchange.messages import Phase, Reason, Records, Side, join

WITHIN = 100 * BPS
"""Distance from the mid within which the depth is shown, evenly."""


class CandlesConfig(FileConfig):
    """Quotes along recorded candles."""

    path: str = Field(
        min_length=1,
        description="Parquet or CSV table with columns time or timestamp (UTC, the beginning of each candle) and close (currency), and open if "
        "known; relative to the scenario's file, or absolute. It must cover the run",
        examples=["btc-5min.csv.gz"],
    )
    depth_usd: float = Field(
        8e6, gt=0, description="currency bid, and offered, within 100 basis points", examples=[8e6]
    )
    levels: int = Field(20, ge=1, le=200, description="orders on each side", examples=[20])
    spread_bps: float = Field(1.0, gt=0, lt=100, description="distance from bid to ask, basis points", examples=[1.0])
    kept: float = Field(
        1.0,
        ge=0,
        le=1,
        description="fraction of the way a trade walked up the ladder by which the ladder moves",
        examples=[1.0],
    )
    recovery: Seconds = Field(600.0, gt=0, description="half-life of that impact", examples=["10min"])
    cash: float = Field(1e10, ge=0, description="currency it starts with", examples=[1e10])
    coins: float = Field(1e5, ge=0, description="coins or shares it starts with", examples=[1e5])


def read_path(path: Path, clock: Clock) -> npt.NDArray[np.float64]:
    """The price before each step of a run: closes of candles, joined by straight lines of the logarithm.

    Args:
        path: Parquet or CSV table; columns as in `CandlesConfig.path`.
        clock: Of the run.

    Raises:
        ValueError: The table cannot be read, or does not cover the run; one line says the file and the reason.
    """
    table = read_table(path, ("close",))
    named = [name for name in ("time", "timestamp") if name in table]
    if not named:
        raise ValueError(f"{path}: no column 'time'; there are {', '.join(map(str, table.columns))}")
    moments = pd.to_datetime(table[named[0]], utc=True, errors="coerce", format="ISO8601")
    closes = pd.to_numeric(table["close"], errors="coerce").to_numpy(np.float64)
    wrong = moments.isna().to_numpy() | ~(np.isfinite(closes) & (closes > 0))
    if wrong.any():
        raise ValueError(f"{path}: row {int(np.argmax(wrong)) + 1}: time is no moment, or close no price")
    begins = ((moments - pd.Timestamp(clock.start)) / pd.Timedelta("1s")).to_numpy(np.float64)
    if len(begins) < 2 or not (np.diff(begins) > 0).all():
        raise ValueError(f"{path}: times must rise, and there must be two candles or more")
    ends = begins + np.median(np.diff(begins))
    opens = pd.to_numeric(table["open"], errors="coerce").to_numpy(np.float64) if "open" in table else closes
    times, prices = np.concatenate([begins[:1], ends]), np.concatenate([opens[:1], closes])
    if times[0] > 0 or times[-1] < clock.steps * clock.step - 1e-6 or not prices[0] > 0:
        first, last = (f"{moment:%Y-%m-%dT%H:%M}" for moment in (moments.iloc[0], moments.iloc[-1]))
        raise ValueError(
            f"{path}: candles from {first} to {last} do not cover the run; move clock.start and clock.end into them"
        )
    return np.asarray(np.exp(np.interp(np.arange(clock.steps + 1) * clock.step, times, np.log(prices))), np.float64)


@trader("candles")
class CandleQuoter(Population):
    """One account that bids and offers along recorded candles."""

    config: CandlesConfig

    def setup(self) -> None:
        """Read the candles; quote in every step."""
        from abm.scenario import ScenarioError  # which imports the traders

        config, scenario = self.config, self.model.scenario
        file = config.files["path"]
        try:
            self._path = read_path(file, scenario.clock)
            refuse_far(file, float(self._path[0]), scenario.instruments[config.instrument])
        except ValueError as error:
            raise ScenarioError(f"traders.{self.name}.path: {error}") from None
        steps = (np.arange(config.levels) + 0.5) / config.levels
        away = config.spread_bps * BPS / 2 + (WITHIN - config.spread_bps * BPS / 2) * steps
        away[0] = config.spread_bps * BPS / 2
        self._away = np.concatenate([1.0 - away, 1.0 + away])
        self._sides = np.repeat([Side.BUY, Side.SELL], config.levels)
        self._who = np.zeros(2 * config.levels, np.int64)
        self._impact, self._held = 0.0, config.coins
        self._fades = 0.5 ** (scenario.clock.step / config.recovery)
        self.every_step = self.size > 0

    def endow(self) -> tuple[Numbers, Numbers]:
        """Cash and coins."""
        return self.config.cash, self.config.coins

    def decide(self, view: View) -> Records | None:
        """A new ladder around the candles' price, moved by what others took from the last ones."""
        config, book = self.config, view[self.config.instrument]
        if book.phase == Phase.CLOSED:
            return None
        price = float(self._path[min(view.step, len(self._path) - 1)])
        held = float(self.holdings(config.instrument)[0])
        taken, self._held = (self._held - held) * price, held
        self._impact = self._impact * self._fades + config.kept * WITHIN * taken / config.depth_usd
        middle = price * math.exp(self._impact)
        size = np.full(2 * config.levels, config.depth_usd / config.levels / middle)
        quotes = self.limit(book, self._sides, middle * self._away, size, who=self._who, reason=Reason.REPLAY)
        return join([self.cancel_all(book), quotes])
