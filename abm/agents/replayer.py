"""Who sends recorded messages again, at their recorded times, and decides nothing; and the replayer, who has them from a table.

It trades because somebody once did: recorded flow stands in for traders that are not modelled, or meets traders that are. The orders are those of
one account with means of its own, and the exchange matches them as anybody's, so that they trade with whom they meet now.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field, PrivateAttr

from abm.agents.base import Numbers, Population, TraderConfig, trader
from abm.agents.view import View
from abm.clock import Clock
from abm.exchange.description import NS
from abm.exchange.gateway import Batch, Latency
from abm.exchange.instrument import Instrument
from abm.exchange.messages import MESSAGE, Kind, Reason, Records, Side, TimeInForce

_COLUMNS = ("time", "side", "kind", "price", "quantity")
_SIDES = {"buy": Side.BUY, "sell": Side.SELL}
_KINDS = {"limit": Kind.LIMIT, "market": Kind.MARKET, "cancel": Kind.CANCEL}


_FURTHEST = 0.02


class FileConfig(TraderConfig):
    """Who does what a file says."""

    accounts: int = Field(1, ge=0, le=1, description="accounts", examples=[1])
    path: str = Field(min_length=1, description="Parquet or CSV table")

    _folder: Path = PrivateAttr(default_factory=Path)

    def model_post_init(self, context: Any) -> None:
        """Remember the folder of the scenario's file, if whoever reads the scenario says it."""
        self._folder = (context or {}).get("folder", Path())

    @property
    def files(self) -> dict[str, Path]:
        """Where its files are, by key."""
        return {"path": self._folder / self.path}


class ReplayerConfig(FileConfig):
    """Recorded orders."""

    latency: Latency = Field(Latency(), description="added to recorded times; by default they are those of arrival")
    path: str = Field(
        min_length=1,
        description="Parquet or CSV table with columns time (UTC, or seconds since the start of the run), side (buy, sell), kind (limit, market, "
        "cancel), price (currency), quantity (coins or shares), and where there are cancels order (an id) and cancel (the id of the order that is "
        "cancelled); relative to the scenario's file, or absolute",
        examples=["flow.parquet"],
    )
    cash: float = Field(1e9, ge=0, description="currency it starts with", examples=[1e9])
    coins: float = Field(10_000.0, ge=0, description="coins or shares it starts with", examples=[10_000])


def read_flow(path: Path, clock: Clock, instrument: Instrument) -> Records:
    """Recorded orders as messages, in order of time.

    Prices are rounded to a tick away from the market, quantities down to lots; what is less than a lot is left out.

    Args:
        path: Parquet or CSV table; columns as in `ReplayerConfig.path`.
        clock: Of the run: times count from its start.
        instrument: What is traded.

    Returns:
        `MESSAGE` records. The `order` of each is the place of its row in the table, of a cancel that of the order it cancels.

    Raises:
        ValueError: The table cannot be read; one line says the file, the row (from 1, without the header) and the reason.
    """
    table = read_table(path, _COLUMNS)
    kind, side = (_coded(path, table, name, words) for name, words in (("kind", _KINDS), ("side", _SIDES)))
    price, quantity = (
        pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64) for name in ("price", "quantity")
    )
    time, limit, orders = _times(path, table, clock), kind == Kind.LIMIT, kind != Kind.CANCEL
    _refuse(path, np.diff(time, prepend=time[:1]) < 0, "time is before that of the row above")
    _refuse(path, limit & ~((price > 0) & (price < instrument.max_price)), "price is not between 0 and max_price")
    _refuse(path, orders & ~((quantity > 0) & np.isfinite(quantity)), "quantity is not above 0")
    out = np.zeros(len(table), MESSAGE)
    out["time"], out["kind"], out["side"], out["reason"] = time, kind, np.maximum(side, 0), Reason.REPLAY
    out["order"] = np.where(orders, np.arange(len(table)), _targets(path, table, orders))
    out["tif"] = np.where(limit, TimeInForce.GTC, TimeInForce.IOC)
    out["tif"][~orders] = 0
    # A millionth forgives the float's last digits.
    ticks = np.where(limit, price, 0.0) / instrument.tick
    rounded = np.where(side == Side.BUY, np.floor(ticks + 1e-6), np.ceil(ticks - 1e-6))
    out["price"] = np.where(limit, np.clip(rounded, 1, instrument.n_ticks - 1), 0)
    out["quantity"] = np.where(orders, np.where(orders, quantity, 0.0) / instrument.lot + 1e-6, 0.0).astype(np.int64)
    kept: Records = out[~orders | (out["quantity"] > 0)]
    return kept


def read_table(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """A table from Parquet or CSV (also compressed).

    Raises:
        ValueError: It cannot be read, or has no such columns; one line.
    """
    name = path.name.removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            table = pd.read_parquet(path)
        elif name.endswith(".csv"):
            table = pd.read_csv(path)
        else:
            raise ValueError("not a table; write a .parquet or .csv file")
    except OSError as error:
        raise ValueError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]!r}; there are {', '.join(map(str, table.columns))}")
    return table


def _refuse(path: Path, wrong: npt.NDArray[np.bool_], reason: str) -> None:
    if wrong.any():
        raise ValueError(f"{path}: row {int(np.argmax(wrong)) + 1}: {reason}")


def _coded(path: Path, table: pd.DataFrame, name: str, words: dict[str, Any]) -> npt.NDArray[np.int64]:
    """Numbers for words; -1 for the side of a cancel, which needs none."""
    codes = table[name].map(words).to_numpy(np.float64)
    needed = np.isnan(codes) if name == "kind" else np.isnan(codes) & (table["kind"] != "cancel").to_numpy()
    _refuse(path, needed, f"{name} must be one of {', '.join(words)}")
    return np.asarray(np.nan_to_num(codes, nan=-1.0), np.int64)


def _times(path: Path, table: pd.DataFrame, clock: Clock) -> npt.NDArray[np.int64]:
    """Nanoseconds since the start of the run."""
    column = table["time"]
    if pd.api.types.is_numeric_dtype(column):
        _refuse(path, ~np.isfinite(column.to_numpy(np.float64)), "time is missing")
        return np.round(column.to_numpy(np.float64) * NS).astype(np.int64)
    moments = pd.to_datetime(column, utc=True, errors="coerce", format="ISO8601")
    _refuse(path, moments.isna().to_numpy(), "time is neither a date with a time nor a number of seconds")
    return (moments - pd.Timestamp(clock.start)).to_numpy("timedelta64[ns]").astype(np.int64)


def _targets(path: Path, table: pd.DataFrame, orders: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """For each cancel the row of the order it cancels; -1 for other rows."""
    if orders.all():
        return np.full(len(table), -1)
    for column in ("order", "cancel"):
        if column not in table:
            raise ValueError(f"{path}: there are cancels, and no column {column!r}")
    ids = table["order"].where(pd.Series(orders, index=table.index))
    _refuse(path, (ids.duplicated() & ids.notna()).to_numpy(), "order has the id of an earlier one")
    rows = pd.Series(np.arange(len(table)), index=ids)[ids.notna().to_numpy()]
    found = table["cancel"].map(rows).to_numpy(np.float64)
    _refuse(path, ~orders & ~(found < np.arange(len(table))), "cancel is not the id of an order above")
    return np.where(orders, -1, np.nan_to_num(found, nan=-1.0)).astype(np.int64)


def refuse_far(path: Path, price: float, instrument: Instrument) -> None:
    """Refuse a file whose market begins far from the instrument's reference price, which is where others think that it is.

    Raises:
        ValueError: It does; one line.
    """
    if abs(price / (instrument.reference_price or np.inf) - 1.0) > _FURTHEST:
        raise ValueError(f"{path}: begins at {price:g}; set instruments.{instrument.name}.reference_price to that")


class Playback(Population):
    """One account that sends recorded messages; a kind of trader says what they are."""

    config: FileConfig

    def read(self, clock: Clock, instrument: Instrument) -> Records:
        """The messages, in order of time: `MESSAGE` records with times in ns since the start of the run.

        Raises:
            ValueError: The files cannot be used; one line.
        """
        raise NotImplementedError(f"{type(self).__name__} must override read")

    def setup(self) -> None:
        """Read the files, and number the orders."""
        scenario = self.model.scenario
        try:
            flow = self.read(scenario.clock, scenario.instruments[self.config.instrument])
        except ValueError as error:
            from abm.scenario import ScenarioError  # which imports the traders

            key = next((key for key, file in self.config.files.items() if str(error).startswith(f"{file}:")), "path")
            raise ScenarioError(f"traders.{self.name}.{key}: {error}") from None
        flow["owner"], flow["instrument"] = self.first, self.model.exchange.index(self.config.instrument)
        if len(flow):
            flow["order"] += self.model.exchange.take_ids(int(flow["order"].max()) + 1)
        self._flow = flow
        self._next, self._upto = int(np.searchsorted(flow["time"], 0)), 0
        self.every_step = self.size > 0 and self._next < len(flow)

    def decide(self, view: View) -> Records | None:
        """What was recorded in the time of this step."""
        end = view.time_ns + self.model.scenario.clock.step_ns
        self._upto = int(np.searchsorted(self._flow["time"], end))
        if self._upto == self._next:
            return None
        return self._flow[self._next : self._upto].copy()

    def orders(self, view: View) -> Batch | None:
        """The same, cut to what it can pay for, at the recorded times."""
        batch = super().orders(view)
        due = self._flow[self._next : self._upto]
        self._next = self._upto
        self.every_step = self._next < len(self._flow)
        if batch is not None:
            kept = np.isin(_keys(due), _keys(batch.messages))
            batch.messages["time"] = due["time"][kept]
        return batch


def _keys(messages: Records) -> npt.NDArray[np.int64]:
    """A number for each message: an order and what is said of it later have one id."""
    return np.asarray(messages["order"].astype(np.int64) * len(Kind) + messages["kind"])


@trader("replayer")
class Replayer(Playback):
    """One account that sends what a table says."""

    config: ReplayerConfig

    def read(self, clock: Clock, instrument: Instrument) -> Records:
        """The table."""
        return read_flow(self.config.files["path"], clock, instrument)

    def endow(self) -> tuple[Numbers, Numbers]:
        """Cash and coins."""
        return self.config.cash, self.config.coins
