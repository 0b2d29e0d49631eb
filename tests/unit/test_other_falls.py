"""Two falls beside the event: what is put in was known before, nothing is fitted to them, and each runs."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import abm
from abm.agents.retail_leverage import RetailLeverageConfig
from abm.scenario import Scenario, load
from analysis.compare import Row, compare, read_observations

EVENT, BREAK, OCTOBER = "february-2026", "break-of-80k", "oct-2025"
FALLS = (BREAK, OCTOBER)
BARS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "bars"
needs_bars = pytest.mark.skipif(not BARS.is_dir(), reason="candles and daily closes are not here (../shared/data)")


def small(name: str, **overrides: Any) -> Scenario:
    """Some minutes, with few accounts."""
    start, few = load(name).clock.start, {"accounts": 400}
    names = ("leverage_btc", "leverage_eth", "leverage_alts", "institutions_btc", "short_sellers", "retail")
    traders = {trader: few for trader in names if trader in load(name).traders}
    clock = {"end": f"{start + pd.Timedelta('3min'):%Y-%m-%dT%H:%MZ}"}
    return load(name, clock=clock, recording={"network": None}, traders=traders, **overrides)


def at(scenario: Scenario, path: str) -> Any:
    """What stands at a dotted key; a KeyError where nothing does."""
    here: Any = scenario.model_dump()
    for part in path.split("."):
        here = here[part]
    return here


@pytest.mark.parametrize("name", FALLS)
def test_nothing_is_fitted_to_them_and_what_was_fitted_to_february_is_as_it_was(name: str) -> None:
    scenario, event = load(name), load(EVENT)
    table = read_observations(scenario.observations)
    assert set(table["role"]) == {"input", "predicted"}
    assert not scenario.compare
    assert scenario.fitted.items() <= event.fitted.items()
    scaled = {"traders.leverage_btc.accounts", "traders.leverage_eth.longs"}  # a tenth of the accounts; the same coins
    for key in scenario.fitted.keys() - scaled - {"channels.correlation.values"}:
        assert at(scenario, key) == at(event, key), key
    values = event.channels.correlation.values
    assert scenario.channels.correlation.values.items() <= values.items()


@pytest.mark.parametrize("name", FALLS)
def test_what_is_put_in_says_where_it_is_from(name: str) -> None:
    scenario = load(name)
    assert not set(scenario.fitted) & set(scenario.inputs)
    for key, source in scenario.inputs.items():
        assert at(scenario, key) is not None and source, key


@pytest.mark.parametrize("name", FALLS)
def test_nothing_of_what_followed_is_put_in(name: str) -> None:
    scenario = load(name)
    daily = {factor: year / 365**0.5 for factor, year in scenario.news.factors.items()}
    for event in scenario.news.calendar:
        over = event.at + pd.Timedelta(seconds=event.over)
        # as large as a usual day's move, as in the event, or over before the start
        sizes = [abs(size) / daily[factor] for factor, size in event.moves.items()]
        assert over <= scenario.clock.start or all(0.5 < size < 1.6 for size in sizes), event.what
    holders = scenario.traders["long_term_holders"].model_dump()
    assert not holders["zones"]
    etf = scenario.traders.get("etf")
    assert etf is None or not etf.model_dump()["flows"]


def test_sources_that_put_the_break_on_different_days_are_both_there() -> None:
    table = read_observations("break-of-80k.csv")
    days = table.loc[["break.source", "break.candles"], "from_utc"].dt.strftime("%m-%d")
    assert list(days) == ["02-03", "01-31"]
    assert load(BREAK).clock.start == table.loc["break.candles", "from_utc"]


@pytest.mark.parametrize("name", FALLS)
def test_bounds_of_prices_are_half_a_usual_days_move(name: str) -> None:
    table = read_observations(load(name).observations)
    prices = table[table["measure"].isin(["price", "low"])]
    half = prices["instrument"].map({BREAK: {"BTC": 0.0105}, OCTOBER: {"BTC": 0.008, "ETH": 0.0175}}[name])
    for side, sign in (("low", -1), ("high", 1)):
        assert (prices[side] / prices["value"] - 1).to_numpy() == pytest.approx(sign * half.to_numpy(), abs=2e-4)
    others = table[table["measure"].notna() & table["low"].notna()].drop(prices.index)
    assert (others["low"] / others["value"]).to_numpy() == pytest.approx(0.8, abs=0.01)


def history(name: str, trader: str) -> list[tuple[float, float]]:
    config = load(name).traders[trader]
    assert isinstance(config, RetailLeverageConfig)
    return [(days.low, days.high) for days in config.history]


@needs_bars
def test_positions_before_the_break_were_entered_between_the_closes_of_the_days_before() -> None:
    closes = pd.read_csv(BARS / "daily_closes_2022_2026-01.csv", index_col="Date")["BTC_USD"]
    spans = [("2026-01-20", "2026-01-28"), ("2026-01-28", "2026-01-29"), ("2026-01-29", "2026-01-30")]
    ranges = [(closes.loc[first:last].min(), closes.loc[first:last].max()) for first, last in spans]
    assert history(BREAK, "leverage_btc") == [pytest.approx(each, abs=1) for each in ranges]
    assert load(BREAK).day_before["btc-spot"] == round(closes["2026-01-29"])
    # the rule of the bounds
    moves = closes.loc["2025-10-01":"2026-01-30"].pct_change()
    assert moves.std() / 2 == pytest.approx(0.0105, abs=3e-4)


@needs_bars
@pytest.mark.parametrize(("coin", "step", "usual"), [("btc", 10, 0.016), ("eth", 1, 0.035)])
def test_october_begins_as_candles_had_it_and_is_held_against_them(coin: str, step: float, usual: float) -> None:
    bars = pd.read_csv(BARS / f"{coin.upper()}USDT_5m_2025.csv.gz", parse_dates=["timestamp"], index_col="timestamp")
    days = [("02", "06"), ("07", "07"), ("08", "08"), ("09", "09"), ("10", "10 19:55")]
    spans = [bars.loc[f"2025-10-{first}" : f"2025-10-{last}"] for first, last in days]
    ranges = [(span["low"].min(), span["high"].max()) for span in spans]
    assert history(OCTOBER, f"leverage_{coin}") == [pytest.approx(each, abs=step) for each in ranges]
    table = read_observations("oct-2025.csv")["value"]
    opens, night = bars["open"], bars.loc["2025-10-10 20:00":"2025-10-10 23:55"]
    assert load(OCTOBER).day_before[f"{coin}-spot"] == pytest.approx(opens["2025-10-09 20:00"], abs=step)
    assert table[f"{coin}.low.oct10"] == night["low"].min()
    for row, time in ((".open.oct10", "10 20:00"), (".price.oct10_22", "10 22:00"), (".close.oct10", "11 00:00")):
        assert table[coin + row] == pytest.approx(opens[f"2025-10-{time}"], abs=step), row
    moves = bars["close"].resample("D").last().loc["2025-07-01":"2025-10-09"].pct_change()
    assert moves.std() == pytest.approx(usual, abs=0.001)


@pytest.mark.parametrize("name", FALLS)
def test_it_runs_and_is_held_against_what_was_seen(name: str) -> None:
    result = abm.run(small(name))
    assert result.audit.passed
    assert all(book["trades"] > 0 for book in result.summary["instruments"].values())
    rows: dict[str, Row] = {row.observation: row for row in compare(result)}
    begun = [row for row in rows.values() if ".open." in row.observation]
    assert begun and all(row.role == "input" and row.inside for row in begun)
    assert abm.run(small(name)).summary["event_log_hash"] == result.summary["event_log_hash"]


def test_links_of_the_night_switch_off_what_they_name() -> None:
    scenario = small(OCTOBER)
    assert set(scenario.links) == {"news", "maker_withdrawal", "leverage", "panic", "other_markets", "distribution"}
    off = scenario.without(scenario.links)
    assert off.news.calendar == () and off.traders["leverage_eth"].model_dump()["leverage"]["at"] == (1,)
    assert abm.run(off).audit.passed
