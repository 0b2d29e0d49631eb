"""A hub in a run: what its books are at the start, when it fails, who is frozen, who gets what, and what its two ends do to prices."""

import time
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import abm
from abm.agents.credit_hub import CreditHubConfig, Hub
from abm.agents.view import View
from abm.exchange.messages import Reason, Reject, Side
from abm.testing import TraderContract
from tests.unit.makers import BTC, ETH, Maker, market, sound
from tests.unit.walls import volume

SIZE = {BTC: 3.0, ETH: 100.0}
AT = "2026-02-05T00:02Z"
HUB = {
    "kind": "credit_hub",
    "customers": {"savers": {"deposit": 0.5}, "clients": {"custody": 1.0}, "debtors": {"loan": 0.2}},
    "coins": {ETH: 4_000, BTC: 10},
    "cash": 2e6,
    "spent": 0.75,
    "fails_at": AT,
}


@abm.trader("test_holders")
class Holders(abm.Population):
    """Ten accounts with a million and 50 ETH each, that buy a thousandth of a coin in every step."""

    config: abm.TraderConfig

    def endow(self) -> tuple[Any, Any]:
        return 1e6, 50.0

    def decide(self, view: View) -> Any:
        return self.market(view[ETH], Side.BUY, 0.001, reason=Reason.VALUE)


def town(on: bool = True, size: dict[str, float] = SIZE, **settings: Any) -> tuple[abm.Market, dict[str, Maker], Hub]:
    """Ten savers with half of their cash at a hub, ten clients in its custody, and ten debtors."""
    who = {
        name: {"kind": "test_holders", "instrument": ETH, "accounts": 10} for name in ("savers", "clients", "debtors")
    }
    made, makers = market({**who, "hub": HUB | settings}, size, hours=2.0, channels={"credit": on})
    return made, makers, next(p for p in made.populations if isinstance(p, Hub))


def trader(made: abm.Market, name: str) -> abm.Population:
    return next(population for population in made.populations if population.name == name)


class TestHub(TraderContract):
    kind = "credit_hub"


class TestHubAtItsEnd(TraderContract):
    """Fails in the run, with coins to sell."""

    kind = "credit_hub"
    config = {"coins": {"btc-spot": 50}, "fails_at": "2026-02-05T00:00:40Z", "discount": 0.5, "fire_sale": "30s"}  # noqa: RUF012


class TestHubAtAnOrderlyEnd(TraderContract):
    """Ends little by little."""

    kind = "credit_hub"
    config = {  # noqa: RUF012
        "coins": {"btc-spot": 50},
        "fails_at": "2026-02-05T00:00:20Z",
        "mode": "orderly",
        "duration": "1min",
        "every": "5s",
    }


# ------------------------------------------------------------------ the start


def test_books_at_the_start() -> None:
    made, _, hub = town()
    savers, debtors = trader(made, "savers"), trader(made, "debtors")
    assert savers.cash.tolist() == [500_000.0] * 10 and debtors.cash.tolist() == [1e6] * 10
    assert hub.hub.claims[savers.rows].tolist() == [500_000_000_000] * 10
    owes = 0.2 * (1e6 + 50 * 2400)
    assert hub.hub.loans[debtors.rows].tolist() == [round(owes * 1e6)] * 10
    assert sorted(hub.hub.custody) == trader(made, "clients").rows.tolist()
    assert hub.cash[0] == pytest.approx(2e6 + 0.25 * 5e6 - 10 * owes)
    assert hub.own_equity == pytest.approx(2e6 - 0.75 * 5e6 + 4_000 * 2400 + 10 * 73_100)
    assert hub.hub.state == "open" and hub.resolution is None
    sound(made, hub.hub)


def test_off_it_never_fails() -> None:
    made, makers, hub = town(on=False)
    made.run_for("10min")
    assert hub.silent and hub.hub.state == "open" and hub.about()["claims"] == 5e6
    assert makers[ETH].price >= 2400.0 and volume(made, "deleveraging") == 0.0
    assert not [edge for edge in made.contagion.network().edges(data="channel") if edge[2] == "credit"]
    sound(made, hub.hub)


def test_it_fails_when_its_equity_is_below_nothing() -> None:
    made, makers, hub = town(fails_at=None, cash=1.2e6, coins={ETH: 2_000})
    made.run_for("5min")
    assert hub.own_equity == pytest.approx(1.2e6 - 0.75 * 5e6 + 2_000 * 2400, rel=1e-3)
    makers[ETH].news = np.log(0.5)
    made.run_for("3min")
    assert hub.hub.state != "open" and hub.resolution is not None
    assert hub.resolution.start_ns == 6 * 60 * 10**9  # the first look after the fall


# ------------------------------------------------------------------ a collapse


def test_orders_of_frozen_accounts_are_refused_until_all_is_paid() -> None:
    made, _, hub = town(discount=0.01, fire_sale="5min")
    outcomes: list[Any] = []
    match = made.exchange.match

    def watch(tape: Any) -> Any:
        report = match(tape)
        outcomes.append((made.time_ns, tape["owner"].copy(), report.outcomes["reject"].copy()))
        return report

    made.exchange.match = watch  # type: ignore[method-assign]
    made.run_for("10min")
    clients = trader(made, "clients").rows
    refused = [now for now, owner, reject in outcomes if (reject[np.isin(owner, clients)] == Reject.FROZEN).any()]
    others = [now for now, owner, reject in outcomes if (reject[~np.isin(owner, clients)] == Reject.FROZEN).any()]
    assert hub.resolution is not None and hub.resolution.over and not others
    assert refused[0] == 120 * 10**9 and 120 * 10**9 < refused[-1] <= 420 * 10**9
    assert made.result().summary["rejects"] == {"frozen": 10 * len(refused)}
    assert made.refusals == []
    sound(made, hub.hub)


def test_a_collapse_cuts_all_claims_alike() -> None:
    made, makers, hub = town(discount=0.5, spent=1.0, cash=2.5e6, coins={ETH: 500})
    made.run_for("1min")  # what it owes is not there: it fails at its first look
    sound(made, hub.hub)
    assert hub.resolution is not None and hub.hub.state == "closed"
    (row,) = hub.resolution.table().reset_index().to_dict("records")
    savers, clients, debtors = (trader(made, name) for name in ("savers", "clients", "debtors"))
    assert row["creditors"] == 20 and row["defaulted"] == 0.0 and 0.5 < row["recovery"] < 1.0
    claims = [hub.resolution.records[np.isin(hub.resolution.records["creditor"], p.rows)] for p in (savers, clients)]
    for paid in claims:
        assert paid["paid"] / paid["due"] == pytest.approx(np.full(10, row["recovery"]), rel=1e-6)
    assert savers.cash == pytest.approx(np.full(10, 500_000 * (1 + row["recovery"])), rel=0.01)
    assert clients.cash == pytest.approx(np.full(10, 1e6 * row["recovery"]), rel=0.01)
    assert hub.holdings(ETH)[0] == 0.0 and hub.cash[0] < 0.001
    assert makers[ETH].price == pytest.approx(2400 * np.exp(-0.002 * 500 / 100), rel=1e-3)
    assert debtors.cash == pytest.approx(np.full(10, 1e6 - 0.2 * 1.12e6), rel=0.01)
    about = made.result().summary["traders"]["hub"]
    assert about["state"] == "closed" and about["claims_lost"] == pytest.approx(row["lost"])


def test_debtors_without_cash_sell_their_coins() -> None:
    customers = HUB["customers"] | {"debtors": {"loan": 2.0}}  # type: ignore[operator]
    made, _, hub = town(customers=customers, cash=25e6, fire_sale="2min")
    debtors = trader(made, "debtors")
    made.run_for("5min")
    assert (debtors.holdings(ETH) < 0.01).all()  # a debt of 2 240 000 against a million and coins of 120 000
    assert hub.about()["loans_lost"] > 0.0
    sound(made, hub.hub)


def test_a_hub_that_cannot_pay_one_that_failed_falls_too() -> None:
    """A bank that could pay in time, out of its loans, owes to a lender that fails now."""
    debtors = {"kind": "test_holders", "instrument": ETH, "accounts": 10}
    lender = {"kind": "credit_hub", "cash": 6e6, "customers": {"debtors": {"deposit": 0.1}}, "fails_at": AT}
    bank = {"kind": "credit_hub", "customers": {"lender": {"deposit": 0.5}, "debtors": {"loan": 0.2}}, "spent": 0.2}
    made, _ = market({"debtors": debtors, "lender": lender, "bank": bank | {"coins": {ETH: 400}}}, SIZE)
    one, two = (p for p in made.populations if isinstance(p, Hub))
    made.run_for("1min")
    assert one.own_equity == pytest.approx(6e6) and two.own_equity > 0.0
    assert (one.hub.state, two.hub.state) == ("open", "open")
    made.run_for("14min")
    assert one.resolution is not None and one.resolution.waves == [("lender",), ("bank",)]
    assert (one.hub.state, two.hub.state) == ("closed", "closed") and two.resolution is None
    sound(made, one.hub, two.hub)


# ------------------------------------------------------------------ two ends of one hub


def ends(mode: str, size: dict[str, float] = SIZE, **settings: Any) -> tuple[abm.Market, Maker, Hub]:
    """The hub ends in a market that forgets half of what sales did to it in two minutes."""
    made, makers, hub = town(size=size, mode=mode, duration="20min", discount=0.5, **settings)
    makers[ETH].half_life = 120.0
    made.run_for("25min")
    sound(made, hub.hub)
    return made, makers[ETH], hub


def test_a_collapse_makes_prices_fall_further_than_an_orderly_end() -> None:
    lowest = {}
    for mode in ("collapse", "orderly"):
        made, _, hub = ends(mode)
        lowest[mode] = made.recorder.mids[made.exchange.index(ETH), : made.steps_done + 1].min() / 2400 - 1
        assert hub.holdings(ETH)[0] == 0.0 and hub.hub.state == "closed"
    assert lowest["collapse"] < 2 * lowest["orderly"] < 0.0, lowest


def test_who_is_sound_pays_all_in_an_orderly_end_and_not_in_a_collapse() -> None:
    """Assets of 5.18 million against claims of five, in a market where all of its coins at once bring a twelfth less."""
    recovery = {}
    for mode in ("collapse", "orderly"):
        made, _, hub = ends(mode, SIZE | {ETH: 15.0}, coins={ETH: 1_200}, cash=2.3e6, spent=1.0)
        assert hub.resolution is not None
        (row,) = hub.resolution.table().to_dict("records")
        recovery[mode] = row["recovery"]
        frozen = made.result().summary["rejects"].get("frozen", 0)
        assert (frozen > 0) == (mode == "collapse")
    assert 0.9 < recovery["collapse"] < 1.0 == recovery["orderly"]


def test_an_orderly_end_sells_by_and_by_freezes_nobody_and_pays_more() -> None:
    made, _, hub = town(mode="orderly", duration="20min")
    made.run_for("12min")
    assert hub.hub.state == "winding down" and made.result().summary["rejects"] == {}
    assert hub.holdings(ETH)[0] == pytest.approx(4_000 * 11 / 20)  # the last sale was 9 minutes after the failure
    assert hub.about()["claims"] == pytest.approx(5e6 * 11 / 20)
    made.run_for("13min")
    assert hub.hub.state == "closed" and hub.holdings(ETH)[0] == 0.0 and hub.about()["claims_lost"] == 0.0
    assert trader(made, "savers").cash == pytest.approx(np.full(10, 1e6), rel=0.02)
    sound(made, hub.hub)


# ------------------------------------------------------------------ the network


def test_the_channel_links_hub_creditors_and_debtors() -> None:
    made, _, hub = town()
    graph = made.contagion.network()
    links = {(u, v): d["weight"] for u, v, d in graph.edges(data=True) if d["channel"] == "credit"}
    assert links["hub:hub", "savers/3"] == 500_000.0 and links["hub:hub", "clients/3"] == 1e6
    assert links["debtors/9", "hub:hub"] == pytest.approx(224_000.0)
    assert links["hub", "hub:hub"] == pytest.approx(hub.cash[0] + 4_000 * 2400 + 10 * 73_100)
    assert len(links) == 31 and graph.nodes["hub:hub"]["kind"] == "hub"


# ------------------------------------------------------------------ configuration and cost


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValidationError, match="coins must not be below 0"):
        CreditHubConfig.model_validate(HUB | {"coins": {ETH: -1.0}})
    with pytest.raises(abm.ScenarioError, match="hub: customers: no trader 'savrs' stands above it"):
        town(customers={"savrs": {"deposit": 0.5}})
    with pytest.raises(abm.ScenarioError, match=r"hub: account .* cannot be lent so much"):
        town(cash=0.0)


def test_a_hub_in_which_nothing_happens_costs_next_to_nothing() -> None:
    """Less than 10 us a step of one second."""
    made, _, hub = town(fails_at=None)
    made.run_for("2min")
    view, began = made.view(), time.perf_counter()
    for _ in range(1000):
        hub.decide(view)
    assert (time.perf_counter() - began) / 1000 / 60 < 10e-6
