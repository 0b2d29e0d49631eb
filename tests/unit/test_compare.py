"""The table of observations: what is computed from runs, and what is said where nothing can be compared."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import abm
from abm.record import Result
from abm.scenario import ScenarioError
from analysis.compare import (
    MEASURES,
    Row,
    Taken,
    compare,
    compare_measured,
    measured,
    premiums,
    read_observations,
    strayed,
)
from analysis.compare_figure import comparison_figure
from analysis.wording import strayed_text

COIN, PERP = "btc-spot", "btc-perp"


@pytest.fixture(scope="module")
def result() -> Result:
    """Two days of hourly bars that fall by 100 an hour to noon of the second day, and rise again; the perpetual of another coin is liquidated too."""
    scenario = abm.load("spot", recording={"interval": "1h"})
    hours = pd.date_range("2026-02-05", periods=48, freq="1h", tz="UTC")
    mids = np.array([73_100.0 - 100 * (h + 1) if h < 36 else 69_500.0 + 200 * (h - 35) for h in range(48)])
    bars = pd.DataFrame({"time": hours, "mid": mids, "low": mids - 10, "high": mids + 20, "mark": mids - 5})
    bars["open_interest"], bars["funding"] = 1e5 - 100.0 * np.arange(48), np.where(np.arange(48) < 30, -2e-4, 1e-4)
    small = abm.run(abm.load("first-hour", clock={"end": "2026-02-05T00:01Z"}))
    return replace(
        small,
        bars=pd.concat([bars.assign(instrument=name) for name in (COIN, PERP)]),
        liquidations=_liquidations(),
        gauges=pd.DataFrame(
            {"time": hours, "trader": "desk", "gauge": "risk_reversal", "value": np.linspace(-0.05, -0.15, 48)}
        ),
        scenario=scenario.model_dump(mode="json"),
        summary=small.summary | {"instruments": {name: {"open": 73_100.0} for name in (COIN, PERP)}},
    )


def _liquidations() -> pd.DataFrame:
    rows = [
        ("2026-02-05T01:00", PERP, "liquidated", 1, 2.0, 70_000.0, "long", 69_500.0),
        ("2026-02-05T02:00", PERP, "taken_over", 1, 1.0, 70_000.0, "long", 70_100.0),  # the same account again
        (
            "2026-02-05T02:00",
            PERP,
            "deleveraged",
            2,
            9.0,
            70_000.0,
            "long",
            70_200.0,
        ),  # closed against others, as no fund was left
        ("2026-02-06T02:00", PERP, "liquidated", 3, 3.0, 60_000.0, "short", 59_990.0),
        ("2026-02-06T03:00", COIN, "liquidated", 4, 7.0, 60_000.0, "long", 60_000.0),  # not of a perpetual
    ]
    columns = ["time", "instrument", "what", "account", "quantity", "mark", "closed", "bankruptcy_price"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(time=pd.to_datetime(table["time"], utc=True))


def _rows(*results: Result) -> dict[str, Row]:
    return {row.observation: row for row in compare(results)}


def test_each_measure_is_taken_over_the_window_of_its_observation(result: Result) -> None:
    rows = _rows(result)
    assert rows["btc.open.feb5"].simulated == 73_100.0
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


def test_what_accounts_lost_counts_as_liquidated_whoever_took_it(result: Result) -> None:
    rows = _rows(result)
    assert rows["liq.usd.48h"].simulated == 12.0 * 70_000 + 3.0 * 60_000
    assert rows["liq.btc.usd.feb5"].simulated == 12.0 * 70_000
    assert rows["liq.accounts.48h"].simulated == 3
    assert math.isnan(rows["liq.usd.24h"].simulated)  # begins before the run


def test_what_is_measured_of_liquidations_and_deleveraging(result: Result) -> None:
    days = [pd.Timestamp("2026-02-05", tz="UTC"), pd.Timestamp("2026-02-07", tz="UTC")]
    run = Taken(result)

    def took(measure: str, market: str = PERP, start: pd.Timestamp = days[0], end: pd.Timestamp = days[1]) -> float:
        return MEASURES[measure](run, market, start, end)

    assert took("liquidated_usd_1min") == 10.0 * 70_000
    assert took("liquidated_usd_40min") == 10.0 * 70_000  # an hour lies between the two of the first day
    assert took("liquidated_long_share") == pytest.approx(12.0 * 70_000 / (12.0 * 70_000 + 3.0 * 60_000))
    assert took("deleveraged_usd") == 9.0 * 70_000
    assert took("deleveraged_share", end=days[0] + pd.Timedelta("1D")) == pytest.approx(9 / 12)
    assert took("deleveraged_after") == 3600.0
    # 100 below on one coin, 200 on nine, and a short 10 above on three; the first account was not under zero at first
    assert took("under_zero_usd") == pytest.approx(100.0 + 9 * 200.0 + 3 * 10.0)
    assert took("under_zero_accounts") == 3
    later = days[0] + pd.Timedelta("3h")
    nothing = {
        "liquidated_usd_1min",
        "liquidated_usd_40min",
        "deleveraged_usd",
        "under_zero_usd",
        "under_zero_accounts",
    }
    for name in ("liquidated_long_share", "deleveraged_share", "deleveraged_after", *nothing):
        quiet, beyond = (
            took(name, start=later, end=days[1] - pd.Timedelta("1D")),
            took(name, end=days[1] + pd.Timedelta("1h")),
        )
        assert quiet == 0.0 if name in nothing else math.isnan(quiet), name
        assert math.isnan(beyond), name


def _two_books(premium: np.ndarray) -> Result:
    """Bars of half an hour: the perpetual's mid is so much above the coin's, whose own mids move."""
    scenario = abm.load("one-sale", recording={"interval": "30min"})
    times = pd.date_range("2026-02-05", periods=len(premium), freq="30min", tz="UTC")
    coin = 70_000.0 + 500.0 * np.arange(len(premium))
    tables = [
        pd.DataFrame({"time": times, "instrument": n, "mid": coin * p}) for n, p in ((COIN, 1.0), (PERP, 1.0 + premium))
    ]
    small = abm.run(abm.load("first-hour", clock={"end": "2026-02-05T00:01Z"}))
    return replace(small, bars=pd.concat(tables), scenario=scenario.model_dump(mode="json"))


def test_a_premium_is_the_mean_of_an_hour_furthest_from_the_index() -> None:
    run = _two_books(np.array([0.0, 0.02, -0.08, 0.0, -0.04, 0.03]))  # the widest half hour is no hour
    start = pd.Timestamp("2026-02-05", tz="UTC")
    assert Taken(run).premium(PERP).tolist() == pytest.approx([0.01, -0.03, -0.04, -0.02, -0.005])
    assert Taken(run).premium(PERP).index[0] == start + pd.Timedelta("1h")
    took = MEASURES["premium"]
    assert took(Taken(run), PERP, start, start + pd.Timedelta("3h")) == pytest.approx(-0.04)
    # hours that begin before the window or end after it are none of its
    assert took(Taken(run), PERP, start, start + pd.Timedelta("90min")) == pytest.approx(-0.03)
    assert took(Taken(run), PERP, start + pd.Timedelta("2h"), start + pd.Timedelta("3h")) == pytest.approx(-0.005)
    assert math.isnan(took(Taken(run), PERP, start, start + pd.Timedelta("30min")))
    assert math.isnan(took(Taken(run), COIN, start, start + pd.Timedelta("3h")))  # a coin has no index
    assert premiums(run) == {PERP: pytest.approx(-0.04)} and strayed(premiums(run)) == {}


def test_a_perpetual_that_leaves_its_index_is_named() -> None:
    assert strayed(premiums(_two_books(np.array([0.0, 0.06, 0.06, 0.0])))) == {PERP: pytest.approx(0.06)}
    assert strayed(premiums(_two_books(np.array([0.0, -0.06, 0.0, 0.06])))) == {}  # never for an hour
    assert strayed_text({}) == ""
    assert "btc-perp +6.0%, eth-perp -79.0%." in strayed_text({PERP: 0.06, "eth-perp": -0.79})


def test_an_index_of_several_coins_counts_by_its_weights() -> None:
    run = _two_books(np.zeros(4))
    third = run.bars[run.bars["instrument"] == COIN].assign(instrument="other", mid=lambda bars: bars["mid"] * 1.5)
    instruments = run.scenario["instruments"]
    margin = instruments[PERP]["margin"] | {
        "mark": instruments[PERP]["margin"]["mark"] | {"index": {COIN: 3.0, "other": 1.0}}
    }
    weighted = {**run.scenario, "instruments": {**instruments, PERP: instruments[PERP] | {"margin": margin}}}
    assert premiums(replace(run, bars=pd.concat([run.bars, third]), scenario=weighted)) == {
        PERP: pytest.approx(1 / 1.125 - 1)
    }


def test_open_interest_funding_and_options(result: Result) -> None:
    taken = {name: MEASURES[name] for name in ("open_interest", "funding_sign")}
    noon = pd.Timestamp("2026-02-05T12:00Z")
    assert taken["open_interest"](Taken(result), PERP, noon, noon) == pytest.approx((1e5 - 1100) * (73_100 - 1200 - 5))
    rows = _rows(result)
    assert rows["funding.sign"].simulated == -1.0  # 18 hours below nothing, 17 less far above
    assert rows["funding.sign"].inside is True
    assert rows["skew.rr25"].simulated == pytest.approx(-0.1)


def test_roles_are_those_of_the_file_unless_the_scenario_says_otherwise(result: Result) -> None:
    rows = _rows(result)
    assert rows["btc.open.feb5"].role == "input"
    assert rows["btc.close.feb5"].role == "predicted"  # the file says fitted, and here nothing is
    assert rows["liq.usd.48h"].role == "predicted"
    assert rows["btc.low.feb6"].note == "demand at 60 000 is put in; printed in the first hours of the day"


def test_several_runs_are_told_by_their_median_and_where_most_of_them_lie(result: Result) -> None:
    def moved(by: float) -> Result:
        return replace(result, bars=result.bars.assign(low=result.bars["low"] + by))

    row = _rows(*(moved(by) for by in (-300.0, 0.0, 500.0)))["btc.low.feb6"]
    assert row.runs == 3
    assert row.simulated == 69_490
    assert (row.least, row.most) == pytest.approx((69_490 - 270, 69_490 + 450))  # 5 and 95 % of three, by line


def test_a_verdict_is_decided_where_the_median_itself_is_known_well_enough(result: Result) -> None:
    """Of twenty runs the 6th and the 15th: 1 - 2 P(Binomial(20, 1/2) < 6) = 95.9 %, where the 7th and the 14th would have 88.5 %."""
    low, high = 62_300.0, 63_000.0  # the bounds of the close

    def row(values: list[float]) -> Row:
        said = dict.fromkeys(measured(result), math.nan)
        rows = compare_measured(result.scenario, [said | {"btc.close.feb5": value} for value in values])
        return next(row for row in rows if row.observation == "btc.close.feb5")

    spread = [62_000.0 + 50 * k for k in range(20)]
    found = row(spread)
    assert (found.low, found.high) == (low, high)
    assert (found.median_low, found.median_high) == (spread[5], spread[14])
    assert found.inside is True and found.decided is False  # the 6th is 62 250, below the bound
    assert row([value + 50 for value in spread]).decided is True
    assert row([value - 300 for value in spread]).decided is False  # outside, but the 15th is inside
    assert row([value - 1000 for value in spread]).decided is True  # all of the interval is below
    assert row([low - 1] * 10 + [high + 1] * 10).decided is False  # on both sides of both bounds
    few = row(spread[:4])
    assert few.decided is None and math.isnan(few.median_low) and few.to_dict()["median_low"] is None
    assert row(spread[:1]).decided is None and row([math.nan]).decided is None


def test_a_run_that_does_not_reach_a_window_says_so(result: Result) -> None:
    short = replace(result, bars=result.bars[result.bars["time"] < "2026-02-06"])
    rows = _rows(short)
    assert rows["btc.close.feb5"].inside is False
    assert math.isnan(rows["btc.low.feb6"].simulated)
    assert rows["btc.low.feb6"].inside is None
    assert rows["btc.low.feb6"].to_dict()["simulated"] is None
    assert rows["btc.low.feb6"].to_dict()["start"] == "2026-02-06T00:00:00+00:00"
    assert math.isnan(rows["ndx.ret.feb5"].simulated)  # not traded there
    both = _rows(short, result)["btc.low.feb6"]
    assert (both.runs, both.simulated) == (1, 69_490)


def test_observations_are_kept_with_their_sources_and_what_measures_them() -> None:
    table = read_observations("february-2026.csv")
    assert table.loc["btc.close.feb5", "value"] == 62_600
    assert table["source"].notna().all()
    known = table[table["measure"].notna()]
    assert set(known["measure"]) <= set(MEASURES)
    assert known["market"].notna().all()
    assert set(known["role"]) <= {"fitted", "predicted"}
    with pytest.raises(ScenarioError, match="no such file"):
        read_observations("january.csv")


def test_an_unknown_observation_is_named(result: Result) -> None:
    wrong: dict[str, Any] = {"compare": {"btc.nothing": {"role": "input", "note": ""}}}
    with pytest.raises(ScenarioError, match=r"btc\.nothing is not in february-2026\.csv"):
        compare(replace(result, scenario=result.scenario | wrong))


def test_a_scenario_without_observations_is_held_against_nothing(result: Result) -> None:
    bare = replace(result, scenario=result.scenario | {"observations": ""})
    assert measured(bare) == {}
    assert compare(bare) == []


def test_the_figure_has_a_place_for_each_observation_with_bounds(result: Result) -> None:
    rows = compare([result])
    figure = comparison_figure(rows, "a title")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert "btc.low.feb6" in labels
    assert "miner.hashprice" not in labels  # one bound
    assert "ndx.ret.feb5" not in labels  # not covered
