"""Correlation trading: what leaders did is traded in their follower, by the equation, and by nobody where the channel is off."""

from typing import Any

import numpy as np
import pytest

import abm
from abm.agents.correlation_traders import CorrelationTraders
from tests.unit.two_assets import BTC, ETH
from tests.unit.walls import Wall, derivative, market, only, volume

COIN = {"tick": 0.01, "lot": 0.001, "max_price": 100_000, "reference_price": 2_000}
SHARE = {"tick": 0.01, "lot": 1, "max_price": 10_000, "reference_price": 100, "calendar": {"opening_call": 300}}
TRADERS: dict[str, Any] = {
    "kind": "correlation_traders",
    "instrument": ETH,
    "capital": 20e6,
    "gain": 10,
    "half_life": "1h",
    "look": "1min",
    "band": 0.0,
}


def followers(
    follows: dict[str, dict[str, float]], instruments: dict[str, Any], hours: float = 4.0, on: bool = True, **terms: Any
) -> tuple[abm.Market, dict[str, Wall], CorrelationTraders]:
    """Walls in all books, and correlation traders in one of them."""
    made, walls = market(
        {"followers": TRADERS | terms},
        instruments,
        hours=hours,
        step="10s",
        channels={"correlation": {"on": on, "follows": follows}},
    )
    return made, walls, only(made, CorrelationTraders)


@pytest.mark.parametrize(("weight", "move"), [(0.4, 0.05), (0.4, -0.05), (-0.4, 0.05)])
def test_what_leaders_did_is_traded_by_the_equation(weight: float, move: float) -> None:
    made, walls, mine = followers({ETH: {BTC: weight}}, {ETH: COIN})
    start = mine.holdings(ETH)
    assert start * 2_000 == pytest.approx(0.5 * 20e6 / 20)
    made.run_for("30min")
    assert volume(made, "trend") == 0.0
    walls[BTC].price *= 1.0 + move
    made.run_for("20min")
    inferred = weight * np.log(1.0 + move)
    assert mine.inferred == pytest.approx(inferred * 0.5 ** (1 / 3), rel=0.02)
    # What an account holds is of its last look, a few minutes ago
    aim = 10 * inferred * 0.5 ** (1 / 3) * 1e6 / 2_000
    assert (mine.holdings(ETH) - start).mean() == pytest.approx(aim, rel=0.05)
    assert volume(made, "trend", BTC) == 0.0
    made.run_for("3h")
    assert (mine.holdings(ETH) - start).mean() == pytest.approx(aim / 8, rel=0.1)  # three half-lives later
    assert made.result().audit.passed


def test_several_leaders_add_up_and_the_limit_holds() -> None:
    made, walls, mine = followers({ETH: {BTC: 0.5, "sol-spot": 1.0}}, {ETH: COIN, "sol-spot": COIN}, half_life="30d")
    walls[BTC].price *= 1.1
    walls["sol-spot"].price *= 1.02
    made.run_for("20min")
    assert mine.inferred == pytest.approx(0.5 * np.log(1.1) + np.log(1.02), rel=0.001)
    bought = mine.holdings(ETH) * 2_000 - 0.5e6
    assert bought == pytest.approx(0.5e6, rel=0.01)  # .67 times the equity, were there no limit
    walls[BTC].price *= 0.5
    made.run_for("20min")
    assert mine.holdings(ETH) * 2_000 == pytest.approx(0.0, abs=0.01 * 1e6)


def test_what_has_margin_is_sold_short() -> None:
    perpetual = derivative("perpetual", ETH, 2_000, funding={})
    made, walls, mine = followers(
        {"eth-perp": {BTC: 0.5}}, {ETH: COIN, "eth-perp": perpetual}, instrument="eth-perp", half_life="30d"
    )
    walls[BTC].price *= 0.95
    made.run_for("20min")
    aim = 10 * 0.5 * np.log(0.95) * 1e6 / 2_000
    assert mine.holdings("eth-perp") == pytest.approx(aim, rel=0.01)
    assert made.result().audit.passed


def test_a_leader_that_is_closed_says_nothing_before_it_trades() -> None:
    """The share falls in the night and opens lower, once: what it did before the close is not traded again."""
    made, walls, mine = followers({BTC: {"ndx": 1.0}}, {"ndx": SHARE}, hours=18.0, instrument=BTC, half_life="30d")
    walls["ndx"].price *= 0.97
    made.run_for("14h")
    assert mine.inferred == 0.0 and volume(made, "trend") == 0.0
    made.run_for("1h")
    assert mine.inferred == pytest.approx(np.log(0.97), rel=0.01)
    assert volume(made, "trend", BTC) > 0.0
    before = mine.inferred
    made.run_for("1h")
    assert mine.inferred == pytest.approx(before, rel=0.01)


def test_a_closed_follower_is_traded_as_it_opens() -> None:
    made, walls, mine = followers({"ndx": {BTC: 1.0}}, {"ndx": SHARE}, hours=16.0, instrument="ndx", half_life="30d")
    walls[BTC].price *= 0.98
    made.run_for("14h")
    assert mine.inferred == pytest.approx(np.log(0.98), rel=0.02)  # hours of 30 days are forgotten
    assert volume(made, "trend") == 0.0
    made.run_for("1h")
    assert volume(made, "trend", "ndx") > 0.0


def test_a_round_takes_no_more_than_its_part_of_the_book() -> None:
    made, walls, _ = followers({ETH: {BTC: 1.0}}, {ETH: COIN}, participation=0.2, look="1s", half_life="30d")
    walls[ETH].size_of = {"buy": 40.0, "sell": 40.0}
    walls[BTC].price *= 0.9
    made.run_for("10min")
    trades = made.result().trades
    sold = trades[(trades["taker"] == "followers") & (trades["instrument"] == ETH)].groupby("time")["quantity"].sum()
    rounds = sold.groupby(sold.index.floor("10s")).sum()
    assert rounds.max() == pytest.approx(0.2 * 40.0)


def test_off_nothing_is_traded_and_nothing_linked() -> None:
    for on in (True, False):
        made, walls, mine = followers({ETH: {BTC: 0.4}}, {ETH: COIN}, hours=1.0, on=on)
        walls[BTC].price *= 0.95
        made.run_for("30min")
        links = [
            (u, v, d["weight"])
            for u, v, d in made.contagion.network().edges(data=True)
            if d["channel"] == "correlation"
        ]
        assert links == ([(BTC, ETH, 0.4)] if on else [])
        assert (volume(made, "trend") > 0.0) == on
        assert mine.silent != on


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        ({}, "traders.followers: nothing leads btc-spot; name its leaders in channels.correlation.follows.btc-spot"),
        ({"follows": {BTC: {BTC: 1.0}}}, "btc-spot cannot follow itself"),
        ({"follows": {BTC: {"gold": 0.0}}}, "the weight of gold is 0; leave it out"),
        ({"follows": {BTC: {"gold": 1.0}}}, "channels.correlation.follows.btc-spot: 'gold' is not traded here"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(channel: dict[str, Any], words: str) -> None:
    with pytest.raises(abm.ScenarioError) as caught:
        abm.Market(
            abm.load(
                "first-hour", traders={"followers": {"kind": "correlation_traders"}}, channels={"correlation": channel}
            )
        )
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("on", "weight"), [(True, 0.8), (True, -0.5), (False, 0.8)])
def test_who_values_an_instrument_takes_what_its_leaders_do_beyond_their_news_for_news(on: bool, weight: float) -> None:
    made, walls = market(
        {}, {ETH: COIN}, hours=1, step="10s", channels={"correlation": {"on": on, "values": {ETH: {BTC: weight}}}}
    )
    made.run_for("1min")
    walls[BTC].price *= 0.9
    made.run_for("1min")
    gap = made.view()[BTC].mid / made.fundamental(BTC)
    assert gap == pytest.approx(0.9, abs=0.01)
    assert made.worth(ETH) == pytest.approx(made.fundamental(ETH) * (gap**weight if on else 1.0))
    assert made.worth(BTC) == made.fundamental(BTC)


def test_chains_of_values_and_a_leader_named_twice_are_refused() -> None:
    for said, why in (
        ({"values": {ETH: {BTC: 1.0}, BTC: {ETH: 1.0}}}, "is valued by its leaders itself"),
        ({"values": {ETH: {BTC: 1.0}}, "follows": {ETH: {BTC: 1.0}}}, "leave one of them out"),
        ({"values": {ETH: {"sol": 1.0}}}, "'sol' is not traded here"),
    ):
        with pytest.raises(ValueError, match=why):
            market({}, {ETH: COIN}, channels={"correlation": said})


def test_a_claim_cannot_lead_what_it_is_a_claim_on() -> None:
    said = {"values": {ETH: {"claim": 1.0}}}
    with pytest.raises(ValueError, match=f"claim is a claim on {ETH}, which is valued by its leaders itself"):
        market(
            {}, {ETH: COIN, "claim": COIN}, channels={"correlation": said}, fundamentals={ETH: {}, "claim": {"of": ETH}}
        )
