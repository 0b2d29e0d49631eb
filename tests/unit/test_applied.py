"""Measures applied to a run: its debts and holdings are the books', and importance is what one computes by hand."""

from typing import Any

import networkx as nx
import numpy as np
import pytest

import abm
from abm.agents.credit_hub import Hub
from abm.contagion.measures import (
    debtrank,
    debts,
    eisenberg_noe,
    gai_kapadia,
    holdings,
    importance,
    neva,
    overlap_cascade,
)
from tests.unit.makers import ETH, market
from tests.unit.test_credit_hub import town, trader
from tests.unit.two_assets import BTC, two_assets
from tests.unit.walls import only


def small() -> "nx.MultiDiGraph[str]":
    """A hub that owes 60 to a saver and is owed 30 by a debtor; a fund with a loan of 50 and the debtor hold the one asset."""
    net: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    net.add_node("coin", kind="asset")
    for name, equity in (("hub", 40.0), ("saver", 100.0), ("debtor", 10.0), ("fund", 20.0), ("idle", 0.0)):
        net.add_node(name, kind="holder", equity=equity)
    net.add_node("hub:hub", kind="hub")
    net.add_node("broker:outside", kind="broker")
    for source, target, channel, weight, lots in (
        ("hub:hub", "saver", "credit", 60.0, None),
        ("debtor", "hub:hub", "credit", 30.0, None),
        ("hub", "hub:hub", "credit", 40.0, None),
        ("broker:outside", "fund", "loan", 50.0, None),
        ("coin", "fund", "exposure", 70.0, 7),
        ("coin", "debtor", "exposure", 30.0, 3),
        ("coin", "saver", "exposure", 10.0, -1),
    ):
        known = {"channel": channel, "weight": weight} | ({} if lots is None else {"lots": lots})
        net.add_edge(source, target, channel, **known)
    return net


def test_debts_are_claims_and_what_is_secured_is_external() -> None:
    owed = debts(small())
    assert {(u, v): d["weight"] for u, v, d in owed.edges(data=True)} == {
        ("hub", "saver"): 60.0,
        ("debtor", "hub"): 30.0,
    }
    assert dict(owed.nodes(data="external_assets")) == {"hub": 70.0, "saver": 40.0, "debtor": 40.0, "fund": 70.0}
    assert dict(owed.nodes(data="external_liabilities"))["fund"] == 50.0
    sheets = eisenberg_noe(owed)
    assert (sheets["recovery"] == 1.0).all()
    assert sheets["equity"].to_dict() == pytest.approx(dict(owed.nodes(data="equity")))
    assert neva(owed)["equity"].to_dict() == pytest.approx(dict(owed.nodes(data="equity")))
    # 30 lost on the debtor are less than the hub's 40
    assert gai_kapadia(owed, "debtor", "equity").extent == 1 / 4
    assert gai_kapadia(owed, "hub", "equity").extent == 1 / 4


def test_holdings_are_what_holders_are_long_of() -> None:
    held = holdings(small())
    assert {(u, v): d["weight"] for u, v, d in held.edges(data=True)} == {
        ("fund", "coin"): 70.0,
        ("debtor", "coin"): 30.0,
    }
    assert dict(held.nodes(data="bipartite")) == {"coin": 1, "fund": 0, "debtor": 0}


def test_importance_is_what_one_computes_by_hand() -> None:
    table = importance(small(), fall=0.3, impact=1.0)
    # The hub's failure costs the saver 60 of 100; the debtor's costs the hub 30 of 40, and through it the saver .75 x .6
    assert table.loc["hub", "debtrank"] == pytest.approx(0.6 * 100 / 170)
    assert table.loc["debtor", "debtrank"] == pytest.approx((0.75 * 40 + 0.75 * 0.6 * 100) / 170)
    assert np.isnan(table.loc["fund", "debtrank"]) and np.isnan(table.loc["coin", "debtrank"])
    # The fund sells .7 of all: the price falls to exp(-.7), which costs the debtor 15 of its 10, and then to exp(-1)
    assert table.loc["fund", "failures"] == 1
    assert table.loc["fund", "loss"] == pytest.approx(30 * (1 - np.exp(-1)))
    # The debtor sells .3: 1 - exp(-.3) = .26 of 70 is 18, less than the fund's 20
    assert table.loc["debtor", "failures"] == 0
    assert table.loc["debtor", "loss"] == pytest.approx(70 * (1 - np.exp(-0.3)))
    # 30 % of 70 is more than the fund has, and then the debtor fails too
    assert table.loc["coin", ["size", "failures"]].tolist() == [100.0, 2]
    assert table.loc["coin", "loss"] == pytest.approx(100 * (1 - 0.7 * np.exp(-1)) - 30)
    assert list(table.index[:2]) == ["debtor", "hub"]


def test_of_a_run_it_is_the_ledgers() -> None:
    """Two funds with leverage 3: a fall of 40 % takes all they have, and neither owes to anybody but the broker."""
    made = abm.Market(two_assets(hours=1))
    graph = made.result().graph()
    held = holdings(graph)
    for u, v, worth in held.edges(data="weight"):
        assert worth == graph[v][u]["exposure"]["weight"]
    table = importance(graph, fall=0.7)
    assert table["debtrank"].isna().all()
    assert table.loc[BTC, "failures"] == 20  # half of three times the equity: .7 x 1.5 > 1
    assert importance(graph, fall=0.6).loc[BTC, "failures"] == 0
    straight = overlap_cascade(held, devalued={BTC: 0.7})
    lost = sum(
        w * (1 - dict(zip(straight.assets, straight.prices, strict=True))[v]) for _, v, w in held.edges(data="weight")
    )
    assert table.loc[BTC, "loss"] == pytest.approx(lost - 0.7 * table.loc[BTC, "size"])


def test_equity_counts_claims_on_hubs_and_debts_to_them() -> None:
    made, _, hub = town()
    graph = made.contagion.network()
    coins = 50 * 2400.0
    assert graph.nodes["savers/0"]["equity"] == pytest.approx(1e6 + coins)  # half of its cash is deposited
    owes = 0.2 * (1e6 + coins)
    assert graph.nodes["debtors/0"]["equity"] == pytest.approx(1e6 + coins - owes)
    assert graph.nodes["hub"]["equity"] == pytest.approx(hub.own_equity)
    owed = debts(graph)
    assert owed["hub"]["savers/3"]["weight"] == pytest.approx(0.5e6)
    assert owed["debtors/3"]["hub"]["weight"] == pytest.approx(owes)
    for name in ("savers/0", "clients/0", "debtors/0", "hub"):
        assert eisenberg_noe(owed).loc[name, "equity"] == pytest.approx(graph.nodes[name]["equity"])
    rank = importance(graph).loc["hub", "debtrank"]
    assert rank == debtrank(owed, {"hub": 1.0}, weights="equity").value
    lost = 10 * 0.5e6 + 10 * 1e6  # deposits, and the cash of clients in custody
    total = sum(equity for _, equity in owed.nodes(data="equity"))
    assert rank == pytest.approx(lost / total)


def test_claims_of_one_hub_on_another_count() -> None:
    hubs: dict[str, Any] = {
        "first": {"kind": "credit_hub", "cash": 5e6},
        "second": {"kind": "credit_hub", "cash": 1e6, "customers": {"first": {"deposit": 0.4}}},
    }
    made, _ = market(hubs, {BTC: 3.0, ETH: 100.0})
    graph, pair = made.contagion.network(), [p for p in made.populations if isinstance(p, Hub)]
    assert [graph.nodes[h.name]["equity"] for h in pair] == pytest.approx([h.own_equity for h in pair]) == [5e6, 1e6]
    assert trader(made, "first").cash[0] == 3e6
    assert debts(graph)["second"]["first"]["weight"] == pytest.approx(2e6)
    assert only(made, Hub).name == "first"


@pytest.mark.parametrize(("terms", "words"), [({"fall": 0.0}, "fall = 0.0"), ({"impact": -1.0}, "impact = -1.0")])
def test_what_makes_no_sense_is_refused(terms: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        importance(small(), **terms)


def test_a_holder_without_equity_is_named() -> None:
    net = small()
    del net.nodes["fund"]["equity"]
    with pytest.raises(ValueError, match="node 'fund' has no attribute 'equity'; set it, in currency"):
        importance(net)


def test_a_network_of_nobody_has_no_importance() -> None:
    assert importance(nx.MultiDiGraph()).empty
