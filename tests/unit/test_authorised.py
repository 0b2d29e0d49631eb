"""The share of a fund: quoted around its value, kept there by authorised participants, created and redeemed in baskets."""

from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

import abm
from abm.agents.authorised import AuthorisedParticipants, AuthorisedParticipantsConfig, ShareMarketMakers
from abm.agents.etf import EtfAllocators
from abm.testing import TraderContract
from abm.world.etf import Fund
from tests.unit.walls import PERPETUAL, SPOT, Wall, only, volume

COIN, SHARE, PERP = "btc-spot", "btc-etf", "btc-perp"
FUND = Fund()
VALUE = FUND.indicative_value(73_100.0)
SHARES = {"tick": 0.01, "lot": 1, "max_price": 1_000, "reference_price": round(VALUE, 2)}
TWO_DAYS = {"start": "2026-02-05T19:00Z", "end": "2026-02-06T21:10Z", "step": "30s"}
"""From 14:00 in New York to after the close of the next day."""
AN_HOUR = {"start": "2026-02-05T15:00Z", "end": "2026-02-05T16:00Z", "step": "1s"}

CONTRACT: dict[str, Any] = {
    "clock": {"start": "2026-02-05T19:59Z", "end": "2026-02-05T20:10Z"},
    "instruments": {SHARE: SHARES},
}


class TestAuthorisedParticipants(TraderContract):
    kind = "authorised_participants"
    # a threshold of nothing: it trades against the market makers of the share at every spread
    config: ClassVar[dict[str, Any]] = {"calm_bps": [0, 0], "limit": 3}
    overrides: ClassVar[dict[str, Any]] = {**CONTRACT, "traders": {"share_market_makers": {}}}
    beside = ("market_makers", "share_market_makers")


class TestShareMarketMakers(TraderContract):
    kind = "share_market_makers"
    overrides: ClassVar[dict[str, Any]] = {
        **CONTRACT,
        "traders": {"buyers": {"kind": "noise", "instrument": SHARE, "volume_per_day": 1e7, "coins": 1e5}},
    }
    beside = ("market_makers", "buyers")


def market(clock: dict[str, str], traders: dict[str, Any], **instruments: Any) -> tuple[abm.Market, Wall]:
    """A market with the coin behind a wall at 73 100."""
    parts = {"clock": clock, "traders": traders, "recording": {"interval": "1h"}}
    parts["instruments"] = {COIN: SPOT, SHARE: SHARES, **instruments}
    made = abm.Market(abm.Scenario.model_validate({"name": "share", **parts}))
    return made, Wall(made, COIN)


def participants(
    premium: float, size: float = 1e6, **settings: Any
) -> tuple[abm.Market, AuthorisedParticipants, Wall, Wall]:
    """Two participants, the funds, and a wall of the share whose mid is a premium over the value."""
    settings = {"accounts": 2, "calm_bps": [20, 20], "funds": "etf", "look": "30s", **settings}
    hedged = {PERP: PERPETUAL} if settings.get("hedge") == PERP else {}
    traders = {"authorised_participants": settings, "etf": {"response": None, "slice": "30s"}}
    made, coin = market(TWO_DAYS, traders, **hedged)
    share = Wall(made, SHARE, size)
    share.price = VALUE * (1 + premium)
    if hedged:
        Wall(made, PERP)
    return made, only(made, AuthorisedParticipants), coin, share


# --------------------------------------------------------------------------------------------- arbitrage and its hedge


@pytest.mark.parametrize(("premium", "side"), [(0.004, -1), (-0.004, 1)])
def test_a_share_away_from_its_value_is_traded_and_hedged(premium: float, side: int) -> None:
    made, firms, _, _ = participants(premium)
    shares, coins = firms.holdings(SHARE), firms.holdings(COIN)
    made.run_for("2min")
    traded = firms.holdings(SHARE) - shares
    assert (np.sign(traded) == side).all()
    made.run_for("30s")
    # all but what was traded in the last step is hedged
    behind = (firms.holdings(COIN) - coins) + (firms.holdings(SHARE) - shares) * FUND.coins_per_share
    assert np.abs(behind).max() <= firms.config.clip * FUND.basket_coins + 1e-3
    assert volume(made, "arbitrage", SHARE) == pytest.approx(np.abs(firms.holdings(SHARE) - shares).sum())


def test_within_the_threshold_nothing_is_traded() -> None:
    made, firms, _, _ = participants(0.0015)
    made.run_for("10min")
    assert volume(made, "arbitrage") == volume(made, "hedge") == 0.0
    assert (firms.threshold(0.42) == 20e-4).all()


def test_the_threshold_follows_volatility_between_its_ends() -> None:
    made, firms, _, _ = participants(0.0, calm_bps=[5, 10], stress_bps=[30, 100])
    for least, greatest, volatility in ((5, 10, 0.2), (30, 100, 2.0)):
        at = firms.threshold(volatility)
        assert ((least * 1e-4 <= at) & (at <= greatest * 1e-4)).all()
    between = firms.threshold((0.42 + 1.2) / 2)
    assert between == pytest.approx((firms.threshold(0.42) + firms.threshold(1.2)) / 2)
    assert made.result().audit.passed


def test_no_firm_goes_beyond_its_limit() -> None:
    made, firms, _, _ = participants(0.01, limit=2)
    made.run_for("30min")
    assert (firms.holdings(SHARE) == 0).all()
    assert firms.holdings(COIN) == pytest.approx(4 * FUND.basket_coins)


# ------------------------------------------------------------------------------------------------ creation, redemption


def end_of(made: abm.Market, share: Wall, premium_until: str = "30min") -> None:
    """Run with a premium for a while, and then without one to the end."""
    made.run_for(premium_until)
    share.price = VALUE
    made.run_for(made.scenario.clock.steps - made.steps_done)


@pytest.mark.parametrize("premium", [0.004, -0.004])
@pytest.mark.parametrize("hedge", [COIN, PERP])
def test_in_kind_baskets_settle_a_session_later_against_coins(premium: float, hedge: str) -> None:
    made, firms, _, share = participants(premium, limit=5, hedge=hedge)
    funds = only(made, EtfAllocators)
    coins, held = firms.holdings(COIN), firms.holdings(SHARE)
    custody = funds.holdings()[0]
    made.run_for("30min")
    share.price = VALUE
    made.run_for("31min")  # 15:01: ordered
    sign = int(np.sign(premium))
    assert firms.ordered.tolist() == [sign * 5] * 2
    made.run_for("60min")  # 16:01: priced
    assert firms.ordered.tolist() == [0, 0]
    assert {order.baskets for order in firms.primary.orders} == {sign * 5}
    assert firms.primary.orders[0].price == pytest.approx(73_100, rel=2e-4)
    assert firms.holdings(SHARE).tolist() == (held - sign * 5 * FUND.basket).tolist()
    # coins to be delivered are there, whatever the hedge was in until the fixing; of a redemption they have been sold
    assert firms.holdings(COIN) == pytest.approx(coins + sign * 5 * FUND.basket_coins)
    if hedge == PERP:
        assert firms.holdings(PERP) == pytest.approx(np.zeros(2), abs=1e-3)
    made.run_for(made.scenario.clock.steps - made.steps_done)
    assert firms.primary.orders == []
    assert firms.holdings(SHARE).tolist() == held.tolist()
    assert firms.holdings(COIN) == pytest.approx(coins)
    assert funds.holdings()[0] - custody == pytest.approx(sign * 10 * FUND.basket_coins)
    entered = made.house.entries["creation" if sign > 0 else "redemption"]
    assert entered == {"cash": 0, SHARE: sign * 10 * FUND.basket}
    assert made.result().audit.passed
    assert volume(made, "creation") == volume(made, "redemption") == 0.0  # the fund has traded nothing


@pytest.mark.parametrize("premium", [0.004, -0.004])
def test_in_cash_the_fund_trades_the_coins_in_the_hour_and_the_hedge_is_given_up(premium: float) -> None:
    made, firms, _, share = participants(premium, limit=5, redemption="cash")
    funds = only(made, EtfAllocators)
    coins, held, cash = firms.holdings(COIN), firms.holdings(SHARE), funds.cash[0]
    custody = funds.holdings()[0]
    sign = int(np.sign(premium))
    made.run_for("30min")
    share.price = VALUE
    made.run_for("29min")
    assert firms.holdings(COIN) - coins == pytest.approx(np.full(2, sign * 5 * FUND.basket_coins))
    assert funds.holdings()[0] == custody
    made.run_for("31min")  # half of the hour
    assert firms.holdings(COIN) - coins == pytest.approx(np.full(2, sign * 2.5 * FUND.basket_coins), rel=0.02)
    assert funds.holdings()[0] - custody == pytest.approx(sign * 5 * FUND.basket_coins, rel=0.02)
    made.run_for("32min")
    assert firms.holdings(COIN) == pytest.approx(coins)
    # a child order is half to all of what is behind: two slices after the hour next to nothing is left
    assert funds.holdings()[0] - custody == pytest.approx(sign * 10 * FUND.basket_coins, rel=1e-4)
    made.run_for(made.scenario.clock.steps - made.steps_done)
    assert firms.holdings(SHARE).tolist() == held.tolist()
    # what it paid for coins, or got for them, came from, or went to, who ordered: but for half the spread, nothing is left
    assert abs(funds.cash[0] - cash) < 2e-4 * 10 * FUND.basket_coins * 73_100
    assert made.result().audit.passed


def test_less_than_a_basket_is_not_ordered_and_stays_hedged() -> None:
    made, firms, _, share = participants(0.004, size=25_000, clip=0.3)
    coins = firms.holdings(COIN).sum()
    made.run_for("60s")
    share.price = VALUE
    made.run_for("90min")
    sold = firms.config.limit * FUND.basket * 2 - firms.holdings(SHARE).sum()
    assert 0 < sold < FUND.basket
    assert firms.ordered.sum() == 0
    assert firms.holdings(COIN).sum() - coins == pytest.approx(sold * FUND.coins_per_share)


def test_what_cannot_be_delivered_stays_due() -> None:
    made, firms, _, share = participants(0.004, limit=5)
    made.run_for("30min")
    share.price = VALUE
    made.run_for("24h")
    # the first firm's coins are gone, but for those of two baskets
    rows = firms.rows[:1]
    made.house.debit(rows, "lost", coins=firms.holdings(COIN)[0] - 2.5 * FUND.basket_coins, instrument=COIN)
    made.exchange.accounts.cash[rows] = 0  # nor can it buy others
    made.run_for(made.scenario.clock.steps - made.steps_done)
    assert [order.baskets for order in firms.primary.orders] == [3]
    assert firms.primary.due(firms.rows).tolist() == [3, 0]


def test_without_funds_custody_is_outside_the_market() -> None:
    made, _, _, share = participants(0.004, limit=5, funds="")
    end_of(made, share)
    assert made.house.entries["creation"] == {
        "cash": 0,
        COIN: -round(10 * FUND.basket_coins / 1e-4),
        SHARE: 10 * FUND.basket,
    }
    assert made.result().audit.passed


def test_configurations_fit_together() -> None:
    with pytest.raises(ValidationError, match="redemption in cash needs funds"):
        AuthorisedParticipantsConfig(redemption="cash")
    with pytest.raises(ValidationError, match="calm_bps must be two numbers"):
        AuthorisedParticipantsConfig(calm_bps=(9.0, 3.0))
    with pytest.raises(ValidationError, match="stress_bps must not be below calm_bps"):
        AuthorisedParticipantsConfig(stress_bps=(3.0, 100.0))
    with pytest.raises(ValueError, match=r"funds: 'eft' is not a trader of kind etf"):
        participants(0.0, funds="eft")


# ----------------------------------------------------------------------------------------------------- market makers


def makers(**settings: Any) -> tuple[abm.Market, ShareMarketMakers, Wall]:
    made, coin = market(AN_HOUR, {"share_market_makers": settings})
    return made, only(made, ShareMarketMakers), coin


def test_the_share_is_quoted_around_the_value_of_its_coins() -> None:
    made, firms, coin = makers()
    for price in (73_100.0, 70_000.0):
        coin.price = price
        made.run_for("20s")
        book, value = made.view()[SHARE], FUND.indicative_value(price)
        assert book.bid is not None
        assert book.ask is not None
        assert book.bid < value < book.ask
        tick, half = book.instrument.tick, firms.config.half_spread_bps[1] * 1e-4 * value
        assert book.ask - book.bid <= 2 * (half + tick)
    lots = made.exchange.depth_within(made.exchange.index(SHARE), 200.0)
    assert lots[0] == lots[1] == 3 * 4 * 20_000


def test_quotes_lean_against_inventory_and_end_when_nobody_renews_them() -> None:
    made, firms, _ = makers()
    made.run_for("20s")
    calm = made.view()[SHARE].mid
    made.house.credit(firms.rows, "test", coins=0.5e6, instrument=SHARE)
    made.run_for("20s")
    leaning = made.view()[SHARE].mid
    assert leaning == pytest.approx(calm * (1 - 0.5 * firms.config.lean_bps * 1e-4), abs=0.011)
    bids, asks = made.exchange.depth_within(made.exchange.index(SHARE), 200.0)
    assert bids < asks
    assert made.result().audit.passed


def test_a_participant_brings_the_share_back_to_its_value() -> None:
    """The market makers' inventory moves the price away; creations and redemptions are what lets it return."""

    def premium(firms: int) -> float:
        traders = {
            "share_market_makers": {},
            "authorised_participants": {"accounts": firms, "funds": "", "calm_bps": [5, 5]},
        }
        made, _ = market(AN_HOUR, traders)
        buyer = abm.Trader(made, cash=1e9, config=abm.TraderConfig(instrument=SHARE))
        made.run_for("10s")
        for _ in range(60):
            buyer.buy(SHARE, 30_000)
            buyer.wake()
            made.run_for("10s")
        assert buyer.position(SHARE) > 1e6
        return made.view()[SHARE].mid / VALUE - 1

    assert premium(0) > 15e-4
    assert abs(premium(2)) < 10e-4
