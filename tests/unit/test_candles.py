"""The candle quoter: alone the mid follows the candles; who trades with it moves it, and that fades."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import abm
from abm.agents.candles import read_path
from abm.agents.view import View
from tests.unit.walls import SPOT

CANDLES = Path(__file__).with_name("candles.csv")
REAL = Path(__file__).parents[2].parent / "shared" / "data" / "bars" / "BTCUSDT_5m_2025.csv.gz"
COIN = "btc-spot"


class Buyer(abm.Trader):
    """Buys once, after ten minutes."""

    every = "10min"

    def act(self, view: View) -> None:
        if view.seconds == 600:
            self.buy(COIN, 20.0)


def market(
    path: Path = CANDLES, price: float = 73_100.0, start: str = "2026-02-05T00:00Z", **config: Any
) -> abm.Market:
    day = pd.Timestamp(start)
    return abm.Market(
        abm.Scenario.model_validate(
            {
                "name": "along-candles",
                "clock": {"start": start, "end": (day + pd.Timedelta("1h")).isoformat(), "step": "10s"},
                "instruments": {COIN: SPOT | {"reference_price": price}},
                "traders": {"candles": {"path": str(path), **config}},
            }
        )
    )


def mids(made: abm.Market) -> np.ndarray:
    made.run_for("1h")
    return made.recorder.mids[0]


def test_alone_the_mid_follows_the_candles() -> None:
    made = market()
    found = mids(made)
    path = read_path(CANDLES, made.scenario.clock)
    assert path[::60] == pytest.approx([73_100, 73_150, 73_050, 73_200, 73_300, 73_100, 73_000])
    assert found[1:] == pytest.approx(path[:-1], abs=0.02)  # what stands in the book was sent a step before
    assert made.result().audit.passed


def test_who_buys_moves_the_price_and_that_fades() -> None:
    alone = mids(market(latency={"base": 0, "spread": 0}))
    made = market(latency={"base": 0, "spread": 0})
    Buyer(made, cash=1e8)
    moved = mids(made) / alone - 1.0
    bought = made.result().trades
    usd = float((bought["price"] * bought["quantity"]).sum())
    assert bought["quantity"].sum() == pytest.approx(20.0)
    assert abs(moved[:60]).max() < 1e-6
    expected = np.expm1(0.01 * usd / 8e6)
    assert moved[63] == pytest.approx(expected, rel=0.02)
    assert moved[63 + 60] == pytest.approx(expected / 2, rel=0.03)  # ten minutes later
    none = market(latency={"base": 0, "spread": 0}, kept=0.0)
    Buyer(none, cash=1e8)
    assert abs(mids(none) / alone - 1.0)[63:].max() < 1e-6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time,close\n2026-02-05T00:10Z,73100\n2026-02-05T02:00Z,73100\n", "do not cover the run"),
        ("time,close\n2026-02-05T00:00Z,73100\n2026-02-05T00:10Z,73100\n", "do not cover the run"),
        ("time,close\n2026-02-05T00:00Z,73100\n2026-02-05T00:00Z,73100\n", "times must rise"),
        ("time,close\n2026-02-05T00:00Z,73100\nnever,73100\n", "row 2: time is no moment"),
        ("time,close\n2026-02-05T00:00Z,73100\n2026-02-05T01:00Z,-1\n", "row 2: time is no moment, or close no price"),
        ("when,close\n2026-02-05T00:00Z,73100\n", "no column 'time'; there are when, close"),
        ("time,open\n2026-02-05T00:00Z,73100\n", "no column 'close'"),
        ("time,close\n2026-02-05T00:00Z,50000\n2026-02-05T01:00Z,50000\n", "reference_price to that"),
    ],
)
def test_candles_that_do_not_fit_are_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "candles.csv"
    path.write_text(text)
    with pytest.raises(abm.ScenarioError, match=r"traders\.candles\.path: ") as error:
        market(path)
    assert words in str(error.value) and len(str(error.value).splitlines()) == 1
    with pytest.raises(abm.ScenarioError, match="no such file"):
        market(tmp_path / "none.csv")


@pytest.mark.skipif(not REAL.is_file(), reason="the candles of 2025 are not beside this checkout")
def test_real_candles_carry_a_run() -> None:
    table = pd.read_csv(REAL)
    times = pd.to_datetime(table["timestamp"], utc=True)
    day = times.searchsorted(pd.Timestamp("2025-03-03", tz="UTC"))
    made = market(REAL, float(table["open"].iloc[day]), "2025-03-03T00:00Z")
    found = mids(made)
    assert found[-1] == pytest.approx(float(table["close"].iloc[day + 11]), rel=1e-3)
