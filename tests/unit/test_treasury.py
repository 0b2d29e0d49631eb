"""The treasury company: what it is worth, when it issues and buys, and the one case in which it sells."""

import itertools

import pytest
from pydantic import ValidationError

import abm
from abm.agents.treasury import YEAR, TreasuryCompany, TreasuryConfig
from abm.exchange.messages import Reason
from tests.unit.quoter import Quoter
from tests.unit.walls import only

COIN, SHARE = "btc-spot", "treasury-share"
LISTED = {SHARE: {"tick": 0.01, "lot": 1, "max_price": 10_000, "reference_price": 129}}


def company(end: str = "2026-02-06T00:00Z", listed: dict[str, object] | None = None, **settings: object) -> abm.Market:
    """A market with the company alone; its share is traded where `listed`."""
    plain = abm.load("first-hour")
    traders = dict.fromkeys(plain.traders) | {"treasury": settings | ({"share": SHARE} if listed else {})}
    changes = {"clock": {"end": end, "step": "1min"}, "traders": traders, "recording.interval": "1h"}
    return abm.Market(abm.load("first-hour", instruments=listed or {}, **changes, **{f"instruments.{COIN}.rules": []}))


def taken(of: abm.Market, instrument: str) -> float:
    """Coins or shares that the company bought or sold at once."""
    flows = of.result().flows
    mine = (flows["role"] == "taker") & (flows["reason"] == Reason.TREASURY.name.lower())
    return float(flows[mine & (flows["instrument"] == instrument)]["volume"].sum())


def test_mnav_is_what_the_company_costs_over_what_its_coins_are_worth() -> None:
    terms = {"coins": 1000, "shares": 1e6, "debt": 20e6, "preferred": 10e6, "cash": 5e6}
    unlisted = only(company(share_price=40.0, **terms), TreasuryCompany)
    assert unlisted.mnav == pytest.approx((40e6 + 20e6 + 10e6 - 5e6) / 73.1e6)
    listed = only(company(listed=LISTED, **terms), TreasuryCompany)
    assert listed.mnav == pytest.approx((129e6 + 25e6) / 73.1e6)
    assert listed.unrealised == pytest.approx(1000 * (73_100 - 76_052))
    assert listed.runway == pytest.approx(5e6 / 0.775e9 * YEAR)


def test_a_share_that_is_not_traded_here_follows_the_coin() -> None:
    market = company(share_beta=1.5)
    treasury = only(market, TreasuryCompany)
    Quoter(market, prices=[73_100, 58_480], hours=[0, 1])
    market.run_for("2h")
    assert treasury.share_price == pytest.approx(129 * 0.8**1.5, rel=1e-3)
    assert not treasury.markets_open  # a fall of 28 %


def test_it_pays_its_obligations_and_otherwise_holds() -> None:
    market = company()
    Quoter(market, prices=[73_100, 62_000], hours=[0, 12])
    treasury = only(market, TreasuryCompany)
    market.run_for("1d")
    assert -market.house.entries["obligations"]["cash"] / 1e6 == pytest.approx(0.775e9 / 365, rel=0.01)
    assert treasury.position() == pytest.approx(713_502)
    assert treasury.cash[0] == pytest.approx(2.25e9 - 0.775e9 / 365, rel=1e-4)
    assert treasury.unrealised < -10e9
    assert market.result().audit.passed


@pytest.mark.parametrize(("cheap", "shut", "poor"), list(itertools.product((True, False), repeat=3)))
def test_it_sells_only_if_it_is_cheap_and_markets_are_shut_and_cash_is_short(
    cheap: bool, shut: bool, poor: bool
) -> None:
    market = company(
        shares=100e6 if cheap else 1e9,
        shut_fall=0.05 if shut else 0.5,
        cash=0.3e9 if poor else 0.5e9,  # six months are 0.3875e9
    )
    treasury = only(market, TreasuryCompany)
    Quoter(market, prices=[73_100, 65_000], hours=[0, 1])
    market.run_for("2h")
    assert (treasury.mnav < 1, not treasury.markets_open, treasury.runway < YEAR / 2) == (cheap, shut, poor)
    assert treasury.sells == (cheap and shut and poor)
    assert (taken(market, COIN) > 0) == (cheap and shut and poor)


def test_it_sells_until_cash_covers_six_months_and_no_more_than_a_part_of_its_coins_a_day() -> None:
    terms = {"shares": 100e6, "shut_fall": 0.05, "cash": 0.3e9}
    path = {"prices": [65_000, 60_000], "hours": [0, 0.1]}
    quick, slow = company(**terms, sell_rate=0.1), company(**terms, sell_rate=0.001)
    for market in (quick, slow):
        Quoter(market, **path)
        market.run_for("1d")
    enough = only(quick, TreasuryCompany)
    assert enough.runway == pytest.approx(YEAR / 2, rel=1e-4)
    assert enough.cash[0] == pytest.approx(0.775e9 / 2, rel=1e-4)
    assert taken(quick, COIN) * 60_000 == pytest.approx(0.0875e9 + 0.775e9 / 365, rel=0.01)
    assert taken(slow, COIN) == pytest.approx(0.001 * 713_502, rel=0.05)


def test_it_issues_shares_and_buys_coins_with_what_they_bring() -> None:
    market = company(listed=LISTED, shares=500e6, issuance=10e6)
    Quoter(market)
    Quoter(market, SHARE, prices=[129])
    treasury = only(market, TreasuryCompany)
    assert treasury.mnav > 1 and treasury.issues
    market.run_for("12h")
    raised = treasury.issued * 129
    assert raised == pytest.approx(12 * 10e6, rel=0.02)
    assert market.house.entries["issuance"][SHARE] == treasury.issued == taken(market, SHARE)
    assert taken(market, COIN) * 73_100 * 1.001 == pytest.approx(raised, rel=0.03)
    assert treasury.position() == pytest.approx(713_502 + taken(market, COIN))
    assert treasury.cash[0] == pytest.approx(2.25e9 - 0.775e9 / 730, abs=2.5e6)
    assert market.result().audit.passed


def test_it_issues_nothing_below_mnav_of_one_nor_while_markets_are_shut_nor_out_of_hours() -> None:
    for shares, price in ((100e6, 129), (500e6, 90)):
        market = company(listed=LISTED, shares=shares)
        Quoter(market)
        Quoter(market, SHARE, prices=[129, price], hours=[0, 0.01])
        market.run_for("4h")
        assert only(market, TreasuryCompany).issued <= 20e6 / 6 / 129  # at most at the first look
    hours = {SHARE: LISTED[SHARE] | {"calendar": {}}}  # 14:30 to 21:00 UTC
    market = company(listed=hours, shares=500e6)
    Quoter(market)
    Quoter(market, SHARE, prices=[129])
    treasury = only(market, TreasuryCompany)
    market.run_for("14h")
    assert treasury.issued == 0
    market.run_for("2h")
    assert treasury.issued * 129 == pytest.approx(1.5 * 20e6, rel=0.15)


def test_its_share_must_be_another_instrument_that_is_traded() -> None:
    with pytest.raises(ValidationError, match="share is the coin itself"):
        TreasuryConfig(share=COIN)
    with pytest.raises(ValueError, match="'treasury-share' is not traded here"):
        company(share=SHARE)
