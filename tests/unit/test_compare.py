"""The table of observations: what is computed from a run, and what is said where nothing can be compared."""

import math
from dataclasses import replace

import pandas as pd
import pytest

import abm
from abm.record import Result
from abm.scenario import ScenarioError
from analysis.compare import compare, read_observations

COIN = "btc-spot"


@pytest.fixture(scope="module")
def result() -> Result:
    """Two days of hourly bars that fall by 100 an hour to noon of the second day, and rise again."""
    scenario = abm.load("february-2026", recording={"interval": "1h"})
    hours = pd.date_range("2026-02-05", periods=48, freq="1h", tz="UTC")
    mids = [73_100 - 100 * (h + 1) if h < 36 else 69_500 + 200 * (h - 35) for h in range(48)]
    bars = pd.DataFrame({"time": hours, "instrument": COIN, "mid": [float(m) for m in mids]})
    bars["low"], bars["high"] = bars["mid"] - 10, bars["mid"] + 20
    small = abm.run(abm.load("first-hour", clock={"end": "2026-02-05T00:01Z"}))
    summary = small.summary | {"instruments": {COIN: {"open": 73_100.0}}}
    return replace(small, bars=bars, scenario=scenario.model_dump(mode="json"), summary=summary)


def test_each_measure_is_taken_over_the_window_of_its_observation(result: Result) -> None:
    rows = {row.observation: row for row in compare(result)}
    assert rows["btc.open.feb5"].simulated == 73_100.0
    assert rows["btc.open.feb5"].role == "input"
    assert rows["btc.close.feb5"].simulated == 73_100 - 2400
    assert rows["btc.close.feb5"].gap == 70_700 - 62_600
    assert rows["btc.close.feb5"].inside is False
    assert rows["btc.price.feb5_2230"].simulated == 73_100 - 2200  # the last bar that is over then
    assert rows["btc.ret.feb5"].simulated == pytest.approx(70_700 / 73_100 - 1)
    assert rows["btc.low.feb6"].simulated == 69_500 - 10
    assert rows["btc.high.feb6"].simulated == 69_500 + 200 * 12 + 20
    assert rows["btc.high.feb6"].inside is False
    assert rows["btc.rebound.feb6"].simulated == pytest.approx(71_900 / 70_700 - 1)
    # bounds that are open at one end
    assert rows["miner.hashprice"].low == -math.inf
    assert rows["miner.hashprice"].to_dict()["low"] is None
    assert rows["miner.hashprice"].inside is True


def test_a_run_that_does_not_reach_a_window_says_so(result: Result) -> None:
    short = replace(result, bars=result.bars[:24])
    rows = {row.observation: row for row in compare(short)}
    assert rows["btc.close.feb5"].inside is False
    assert math.isnan(rows["btc.low.feb6"].simulated)
    assert rows["btc.low.feb6"].inside is None
    assert rows["btc.low.feb6"].to_dict()["simulated"] is None


def test_observations_are_kept_with_their_sources() -> None:
    table = read_observations("february-2026.csv")
    assert table.loc["btc.close.feb5", "value"] == 62_600
    assert table["source"].notna().all()
    with pytest.raises(ScenarioError, match="no such file"):
        read_observations("january.csv")


def test_an_unknown_observation_is_named(result: Result) -> None:
    wrong = {"observation": "btc.nothing", "measure": "price", "role": "input", "instrument": COIN, "note": ""}
    with pytest.raises(ScenarioError, match=r"btc\.nothing is not in february-2026\.csv"):
        compare(replace(result, scenario=result.scenario | {"compare": [wrong]}))
