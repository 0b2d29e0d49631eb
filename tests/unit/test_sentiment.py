"""Moods of communities: the equation, whom they reach, and what they do; and allocators who seek shelter."""

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

import abm
from abm.agents.allocators import Allocators
from abm.contagion.channels.sentiment import Diffusion
from abm.contagion.graph import write_graphml
from abm.scenario import load_with
from tests.unit.two_assets import BTC, ETH, two_assets
from tests.unit.walls import derivative, market, only, volume

PAIR = {
    "coins": {"traders": ["noise-btc-spot"], "watches": {BTC: 1.0}},
    "shares": {"traders": ["noise-eth-spot"], "watches": {ETH: 1.0}, "listens": {"coins": 1.0}, "others": 0.4},
}


def graph(watches: dict[tuple[str, str], float], listens: dict[tuple[str, str], float]) -> "nx.MultiDiGraph[str]":
    made: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for (source, target), weight in (watches | listens).items():
        for node in (source, target):
            made.add_node(node, kind="community" if node.isupper() else "asset")
        made.add_edge(source, target, "sentiment", channel="sentiment", weight=weight)
    return made


# ------------------------------------------------------------------ the equation


def test_a_lone_community_takes_on_what_it_sees_at_its_half_life() -> None:
    alone = Diffusion(graph({("a", "X"): 2.0, ("b", "X"): 1.0}, {}), {"X": 0.9}, memory=60.0)
    sees = (2.0 * 0.6 - 0.3) / 3.0
    assert alone.step(np.array([0.6, -0.3]), 60.0) == pytest.approx(
        [sees / 2]
    )  # nobody to hear: `others` counts nothing
    assert alone.step(np.array([0.6, -0.3]), 60.0) == pytest.approx([sees * 0.75])
    assert alone.step(np.array([0.0, 0.0]), 1e9) == pytest.approx([0.0])


def test_moods_settle_where_friedkin_and_johnsen_say() -> None:
    """x = (1 - L) s + L W x, solved directly."""
    rng = np.random.default_rng(7)
    names, assets = [f"C{k}" for k in range(12)], [f"a{k}" for k in range(5)]
    watches = {(a, c): float(rng.uniform(0.1, 1)) for a in assets for c in names if rng.random() < 0.6}
    watches |= {(assets[0], c): 1.0 for c in names}
    listens = {(u, v): float(rng.uniform(0.1, 1)) for u in names for v in names if u != v and rng.random() < 0.3}
    others = {c: float(rng.uniform(0, 1)) for c in names}
    net = graph(watches, listens)
    moods = Diffusion(net, others, memory=1.0)
    signal = {a: float(rng.uniform(-1, 1)) for a in assets}
    for _ in range(400):
        moods.step(np.array([signal[a] for a in moods.assets]), 1.0)
    n = len(names)
    w, s = np.zeros((n, n)), np.zeros(n)
    for (u, v), weight in listens.items():
        w[names.index(v), names.index(u)] = weight
    w /= np.where(w.sum(axis=1) > 0, w.sum(axis=1), 1.0)[:, None]
    for c in names:
        seen = {a: weight for (a, target), weight in watches.items() if target == c}
        s[names.index(c)] = sum(signal[a] * weight for a, weight in seen.items()) / sum(seen.values())
    lam = np.array([others[c] if w[names.index(c)].any() else 0.0 for c in names])
    direct = np.linalg.solve(np.eye(n) - lam[:, None] * w, (1 - lam) * s)
    found = dict(zip(moods.communities, moods.mood.tolist(), strict=True))
    assert [found[c] for c in names] == pytest.approx(direct.tolist(), abs=1e-9)


# ------------------------------------------------------------------ in a market


def test_fear_reaches_who_only_listens() -> None:
    made, walls = market(
        {}, {ETH: {"tick": 0.01, "lot": 0.001, "max_price": 1e5, "reference_price": 2_000}}, hours=12.0, step="1min"
    )
    assert made.contagion.mood("wall-btc-spot") == 0.0
    settings: dict[str, Any] = {
        "communities": {k: v | {"traders": [f"funds-{k}"]} for k, v in PAIR.items()},
        "memory": "1h",
    }
    funds = {f"funds-{k}": {"kind": "allocators", "accounts": 1, "capital": 0} for k in PAIR}
    made, walls = market(
        funds,
        {ETH: {"tick": 0.01, "lot": 0.001, "max_price": 1e5, "reference_price": 2_000}},
        hours=12.0,
        step="1min",
        channels={"sentiment": settings},
    )
    made.run_for("1h")
    walls[BTC].price *= 0.9
    made.run_for("5h")
    coins, shares = made.contagion.mood("funds-coins"), made.contagion.mood("funds-shares")
    assert coins == pytest.approx(np.tanh(-0.1 / 0.05), rel=0.1)
    assert shares == pytest.approx(0.4 * coins, rel=0.15)
    nodes = made.result().nodes.set_index("node")
    assert nodes.loc["community:coins", "mood"].iloc[-1] == pytest.approx(coins)
    edges = {(u, v) for u, v, d in made.contagion.network().edges(data=True) if d["channel"] == "sentiment"}
    assert edges == {(BTC, "community:coins"), (ETH, "community:shares"), ("community:coins", "community:shares")}


def test_a_graphml_file_says_who_listens_to_whom(tmp_path: Path) -> None:
    net: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    net.add_nodes_from(["community:coins", "community:shares"], kind="community")
    net.add_edge("community:shares", "community:coins", "sentiment", channel="sentiment", weight=1.0)
    write_graphml(net, tmp_path / "friends.graphml")
    coins = "coins: {traders: [retail], watches: {btc-spot: 1}}"
    sentiment = f"{{graph: friends.graphml, communities: {{{coins}, shares: {{}}}}}}"
    (tmp_path / "mine.yaml").write_text(f"based_on: first-hour\nchannels: {{sentiment: {sentiment}}}")
    made = abm.Market(load_with(tmp_path / "mine.yaml", []))
    assert ("community:shares", "community:coins", "sentiment") in made.contagion.network().edges(keys=True)
    net.add_edge("gold", "community:coins", "sentiment", channel="sentiment", weight=1.0)
    net.nodes["gold"]["kind"] = "asset"
    write_graphml(net, tmp_path / "friends.graphml")
    with pytest.raises(abm.ScenarioError, match="gold is neither an instrument nor a community"):
        abm.Market(load_with(tmp_path / "mine.yaml", []))


def test_the_network_of_a_run_is_read_back_as_who_watches_and_listens(tmp_path: Path) -> None:
    """The communities of the second run have no ties but those of the file, and the same moods in the end."""
    terms = {"memory": "10min", "horizon": "30min", "strong": 0.002}
    first = abm.run(two_assets(channels={"sentiment": terms | {"communities": PAIR}}))
    first.save(tmp_path / "run")
    exported = abm.read_result(tmp_path / "run").graph()
    assert {d["channel"] for *_, d in exported.edges(data=True)} > {"sentiment", "exposure"}
    write_graphml(exported, tmp_path / "net.graphml")
    bare = {name: {key: terms[key] for key in terms if key in ("traders", "others")} for name, terms in PAIR.items()}
    again = {"communities": bare, "graph": str(tmp_path / "net.graphml")}
    second = abm.run(two_assets(channels={"sentiment": terms | again}))
    assert nx.utils.graphs_equal(second.graph(), first.graph())
    moods = second.nodes.dropna(subset=["mood"])["mood"]
    assert (moods != 0).any()
    lacking = two_assets(channels={"sentiment": again | {"communities": {"coins": bare["coins"]}}})
    with pytest.raises(abm.ScenarioError, match="community:shares is neither an instrument nor a community") as caught:
        abm.Market(lacking)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "target", "channel", "weight", "words"),
    [
        (BTC, "community:coins", "sentiment", float("nan"), "needs a weight above 0"),
        (BTC, "community:coins", "sentiment", -1.0, "needs a weight above 0"),
        (BTC, "community:coins", "exposure", 1.0, "has no edges with channel=sentiment"),
        ("community:coins", BTC, "sentiment", 1.0, "attention leads to another community"),
        ("community:coins", "community:coins", "sentiment", 1.0, "attention leads to another community"),
    ],
)
def test_a_file_of_attention_is_checked(
    tmp_path: Path, source: str, target: str, channel: str, weight: float, words: str
) -> None:
    net: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    net.add_node(BTC, kind="asset")
    net.add_node("community:coins", kind="community")
    net.add_edge(source, target, channel, channel=channel, weight=weight)
    write_graphml(net, tmp_path / "net.graphml")
    (tmp_path / "mine.yaml").write_text(
        "based_on: first-hour\nchannels: {sentiment: {graph: net.graphml, communities: {coins: {watches: {btc-spot: 1}}}}}"
    )
    with pytest.raises(abm.ScenarioError, match=words):
        abm.Market(load_with(tmp_path / "mine.yaml", []))


@pytest.mark.parametrize(
    ("communities", "words"),
    [
        ({"a": {"listens": {"b": 1}}}, "'b' is not another community"),
        ({"a": {"watches": {BTC: 0}}}, "must be above 0"),
        ({"a": {"traders": ["retail"]}, "b": {"traders": ["retail"]}}, "belongs to two"),
        ({"a": {"traders": ["nobody"]}}, "'nobody' is not in this scenario"),
        ({"a": {"watches": {"gold": 1}}}, "'gold' is not in this scenario"),
    ],
)
def test_communities_that_make_no_sense_are_refused_in_one_line(communities: dict[str, Any], words: str) -> None:
    with pytest.raises(abm.ScenarioError, match=words) as caught:
        abm.load("first-hour", channels={"sentiment": {"communities": communities}})
    assert "\n" not in str(caught.value)


def test_in_fear_people_panic_at_smaller_falls() -> None:
    sold = {}
    for fear in (False, True):
        watches = {
            "sentiment": {
                "communities": {"all": {"traders": ["retail"], "watches": {BTC: 1.0}}},
                "memory": "1min",
                "strong": 0.01,
            }
        }
        made, walls = market(
            {"retail": {"accounts": 500, "look": "10min", "trend_followers": 0, "dip_buyers": 0, "savings": 0}},
            hours=6.0,
            step="1min",
            channels=watches if fear else {},
        )
        walls[BTC].price *= 0.92
        made.run_for("4h")
        sold[fear] = volume(made, "panic")
    assert sold[True] > 1.5 * sold[False] > 0.0


# ------------------------------------------------------------------ allocators


DXY = derivative("future", "dollar-spot", 100.0, brackets=[{"leverage": 20, "maintenance": 0.02}]) | {
    "tick": 0.01,
    "lot": 1,
    "max_price": 1_000,
}
DOLLAR = {"dollar-spot": {"tick": 0.01, "lot": 1, "max_price": 1_000, "reference_price": 100.0}, "dxy": DXY}


@pytest.mark.parametrize("on", [True, False])
def test_allocators_leave_for_cash_and_the_dollar_in_stress(on: bool) -> None:
    config = {
        "kind": "allocators",
        "accounts": 2,
        "capital": 100e6,
        "risky": {BTC: 0.5},
        "safe": {"dxy": 1.0},
        "size_sigma": 0.0,
    }
    terms = {"volatility": 0.3, "every": "30min", "slice": "5min", "band": 0.0, "leaves": 0.4, "shelter": 0.5}
    made, walls = market({"funds": config | terms}, DOLLAR, hours=12.0, step="1min", channels={"flight": on})
    mine = only(made, Allocators)
    start = mine.holdings(BTC).sum()
    made.run_for("2h")
    assert mine.holdings(BTC).sum() == pytest.approx(start, rel=1e-3)  # calm
    for k in range(8):
        walls[BTC].price *= 0.95 if k % 2 == 0 else 1 / 0.97
        made.run_for("30min")
    made.run_for("1h")
    if not on:
        assert mine.holdings(BTC).sum() == start
        assert mine.holdings("dxy").sum() == 0
        return
    assert mine.stress == 1.0
    equity = mine.equity(np.array([walls[BTC].price, 100.0])).sum()
    assert mine.holdings(BTC).sum() * walls[BTC].price == pytest.approx(0.5 * 0.6 * equity, rel=0.02)
    assert mine.holdings("dxy").sum() * 100.0 == pytest.approx(0.5 * 0.4 * 0.5 * equity, rel=0.02)
    assert made.result().audit.passed
    assert volume(made, "deleveraging", BTC) > 0


def test_a_portfolio_named_both_ways_is_refused() -> None:
    with pytest.raises(abm.ScenarioError, match="both risky and safe"):
        abm.load("first-hour", **{"traders.x": {"kind": "allocators", "risky": {BTC: 0.5}, "safe": {BTC: 1.0}}})


def test_moods_cost_nothing_without_communities() -> None:
    assert abm.Market(two_assets()).contagion.mood("funds") == 0.0
