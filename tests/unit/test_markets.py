"""The scenario of all markets: around the opening in New York and the futures' rest, with fewer accounts than it has."""

import json
from functools import cache

import pandas as pd
import pytest
from typer.testing import CliRunner

import abm
from abm.agents.market_makers import MarketMakersConfig
from abm.exchange.messages import Phase, Reject
from abm.record import Result
from abm.world.etf import Fund
from experiments.cli import app

SCENARIO = "markets"
COINS = ("btc", "eth", "xrp", "sol", "doge", "alts")
SHARES = ("etf-share", "treasury-share", "ndx", "spx", "dji", "semis", "software")
FUTURES = ("gold", "silver", "wti", "brent", "dxy")
CRYPTO = tuple(f"{coin}-{kind}" for coin in COINS for kind in ("spot", "perp"))
FEWER = {f"leverage_{coin}": {"accounts": 300} for coin in COINS}
OPENING = {"start": "2026-02-04T14:20Z", "end": "2026-02-04T14:50Z"}
"""Shares open at 14:30; NIGHT is what they have heard by then."""
NIGHT = {"at": "2026-02-04T14:22Z", "kind": "other", "what": "a night's news", "moves": {"equities": -0.01}}
EVENING = {"start": "2026-02-04T20:45Z", "end": "2026-02-04T23:15Z", "step": "30s"}
"""Shares close at 21:00, futures rest from 22:00 to 23:00."""


@cache
def run(hours: str) -> tuple[Result, dict[str, float]]:
    """What one of the two times left behind, and what shares were worth ten minutes after it began."""
    clock, calendar = {"opening": (OPENING, [NIGHT]), "evening": (EVENING, [])}[hours]
    market = abm.Market(abm.load(SCENARIO, clock=clock, traders=FEWER, news={"calendar": calendar}))
    market.run_for("10min")
    worth = {name: market.fundamental(name) for name in SHARES}
    market.run_for(market.scenario.clock.steps - market.steps_done)
    return market.result(), worth


def bars(result: Result, names: tuple[str, ...], start: str, end: str) -> pd.DataFrame:
    """Bars of some instruments that began from `start` to before `end`, times of 4 February UTC."""
    begun = result.bars["time"].between(
        pd.Timestamp(f"2026-02-04T{start}Z"), pd.Timestamp(f"2026-02-04T{end}Z"), inclusive="left"
    )
    return result.bars[begun & result.bars["instrument"].isin(names)]


def alive(rows: pd.DataFrame, names: tuple[str, ...]) -> None:
    """Each of the books traded, and had a bid, an offer and depth most of the time."""
    for name in names:
        mine = rows[rows["instrument"] == name]
        assert mine["trades"].sum() > 0, name
        assert mine["spread_bps"].notna().mean() > 0.9, name
        assert min(mine["bid_depth"].median(), mine["ask_depth"].median()) > 0, name


def test_it_is_kept_with_all_its_instruments() -> None:
    listed = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)["scenarios"]
    assert SCENARIO in [kept["name"] for kept in listed if "steps" in kept]
    assert set(abm.load(SCENARIO).instruments) == {*CRYPTO, *SHARES, *FUTURES}


def test_some_firms_quote_crypto_shares_and_metals_out_of_one_capital() -> None:
    makers = [t for t in abm.load(SCENARIO).traders.values() if isinstance(t, MarketMakersConfig)]
    assert any({"btc-perp", "spx", "gold"} <= set(firms.traded) for firms in makers)
    assert set().union(*(firms.traded for firms in makers)) == {*CRYPTO, *SHARES, *FUTURES} - {"etf-share"}


@pytest.mark.parametrize("hours", ["opening", "evening"])
def test_nothing_is_lost(hours: str) -> None:
    result, _ = run(hours)
    assert result.audit.passed, result.audit.faults
    refused = sum(count for why, count in result.summary["rejects"].items() if why != Reject.CLOSED.name.lower())
    assert refused < 0.001 * result.summary["messages"]


def test_all_books_are_alive_once_new_york_has_opened() -> None:
    alive(bars(run("opening")[0], (*CRYPTO, *SHARES, *FUTURES), "14:32", "14:50"), (*CRYPTO, *SHARES, *FUTURES))


def test_shares_open_by_an_auction_nearer_to_what_they_are_worth_than_to_the_last_close() -> None:
    result, worth = run("opening")
    closed = {name: terms.reference_price or 0.0 for name, terms in abm.load(SCENARIO).instruments.items()}
    for name in SHARES:
        first = result.trades[result.trades["instrument"] == name].iloc[0]
        assert first["time"] >= pd.Timestamp("2026-02-04T14:30Z"), name
        assert first["aggressor"] == "auction", name
        assert abs(first["price"] - worth[name]) < abs(first["price"] - closed[name]), name


def test_what_is_closed_does_not_trade() -> None:
    morning, evening = run("opening")[0], run("evening")[0]
    assert bars(morning, SHARES, "14:20", "14:29")["trades"].sum() == 0
    assert bars(evening, SHARES, "21:01", "23:15")["trades"].sum() == 0
    assert bars(evening, FUTURES, "22:01", "22:59")["trades"].sum() == 0


def test_crypto_never_closes_and_futures_come_back() -> None:
    evening = run("evening")[0]
    alive(bars(evening, CRYPTO, "22:01", "22:59"), CRYPTO)
    alive(bars(evening, FUTURES, "23:02", "23:15"), FUTURES)


def test_prices_that_belong_together_stay_together() -> None:
    evening, morning = (
        run(hours)[0].bars.pivot_table(index="time", columns="instrument", values="mid")
        for hours in ("evening", "opening")
    )
    for coin in COINS:
        assert (evening[f"{coin}-perp"] / evening[f"{coin}-spot"] - 1.0).abs().median() < 0.005, coin
    opened = morning[morning.index >= pd.Timestamp("2026-02-04T14:33Z")]
    assert (opened["etf-share"] / opened["btc-spot"] / Fund().coins_per_share - 1.0).abs().median() < 0.005


def test_the_wide_index_is_worth_what_it_holds() -> None:
    market = abm.Market(abm.load(SCENARIO, traders=FEWER))
    parts = {"ndx": 0.306, "dji": 0.694}
    for ahead in ("6h", "1d", "47h"):
        worth = sum(units * market.fundamental(name, ahead) for name, units in parts.items())
        assert worth == pytest.approx(market.fundamental("spx", ahead), rel=2e-4)


def test_index_arbitrage_carries_a_move_from_one_index_to_the_others() -> None:
    """News on one index alone: the wide one is sold for it, and the third is bought against that, but where arbitrage is off."""
    shock = {"at": "2026-02-04T14:35Z", "kind": "other", "what": "one index", "moves": {"ndx": -0.01}, "over": "2min"}
    mids = {}
    for on in (True, False):
        scenario = abm.load(
            SCENARIO, clock=OPENING, traders=FEWER, news={"calendar": [shock]}, channels={"arbitrage": on}
        )
        market = abm.Market(scenario)
        market.run_for("30min")
        result = market.result()
        late = bars(result, ("spx", "ndx", "dji"), "14:40", "14:50")
        mids[on] = late.pivot_table(index="time", columns="instrument", values="mid", observed=True).mean()
        assert ("index_arbitrage" in set(result.trades["taker"])) == on
        edges = {(u, v) for u, v, data in result.graph().edges(data=True) if data["channel"] == "arbitrage"}
        assert ({("ndx", "spx"), ("spx", "dji"), ("dji", "ndx")} <= edges) == on
        assert result.audit.passed
    moved = (mids[True] / mids[False] - 1.0) * 1e4
    assert moved["spx"] < -0.5
    assert moved["dji"] > 2.0
    assert moved["ndx"] > 0.5


def test_a_fall_of_the_wide_index_halts_all_shares() -> None:
    """Nine per cent, slowly enough for single names to trade on: the market-wide breaker stops shares for fifteen minutes, and nothing else."""
    shock = {"at": "2026-02-04T14:32Z", "kind": "other", "what": "a fall", "moves": {"equities": -0.09}, "over": "9min"}
    market = abm.Market(abm.load(SCENARIO, clock=OPENING, traders=FEWER, news={"calendar": [shock]}))
    market.run_for("25min")
    phases = dict(zip(market.scenario.instruments, market.exchange.view().phase.tolist(), strict=True))
    assert {phases[name] for name in SHARES} == {Phase.HALTED}
    assert {phases[name] for name in (*CRYPTO, *FUTURES)} == {Phase.CONTINUOUS}
