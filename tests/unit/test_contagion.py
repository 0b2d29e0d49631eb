"""The contagion layer: the network is the ledger's, channels can be switched off, and each carries what it says and nothing else."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest

import abm
from abm.agents.market_makers import MarketMakers
from abm.agents.multi_asset import MultiAssetFunds
from abm.contagion.graph import EXPOSURE, Edge, read_graphml, write_graphml
from abm.exchange.messages import Phase
from tests.unit.two_assets import BTC, ETH, SILVER, two_assets
from tests.unit.walls import Wall, derivative, market, only, set_phase, volume

NYSE = {"tick": 0.01, "lot": 1, "max_price": 10_000, "reference_price": 100, "calendar": {"opening_call": 300}}


# ------------------------------------------------------------------ the network is the ledger's


def test_exposures_are_the_ledgers_to_the_unit_at_every_export() -> None:
    scenario = two_assets(hours=2, channels={}, recording={"interval": "1min", "network": "30min"})
    made = abm.Market(scenario)
    for _ in range(5):
        graph, position = made.contagion.network(), made.exchange.accounts.position
        for k, instrument in enumerate(made.exchange.instruments):
            held = {
                v: d["lots"] for _, v, c, d in graph.out_edges(instrument.name, keys=True, data=True) if c == EXPOSURE
            }
            assert {graph.nodes[name]["kind"] for name in held} <= {"holder", "house"}
            assert sum(held.values()) == int(position[:, k].sum())
            firms = only(made, MultiAssetFunds)
            each = [held.get(f"{firms.name}/{j}", 0) for j in range(firms.size)]
            assert each == position[firms.rows, k].tolist()
        if made.time < scenario.clock.steps:
            made.run_for("30min")
    result = made.result()
    assert sorted(result.network["time"].unique()) == [
        pd.Timestamp("2026-02-05T00:00Z") + pd.Timedelta(minutes=30 * k) for k in range(5)
    ]
    last = result.graph()
    ends = result.accounts.groupby("trader")[f"{BTC}_end"].sum()
    assert last[BTC]["noise-btc-spot/0"][EXPOSURE]["lots"] == round(
        float(result.accounts.loc[result.accounts["trader"] == "noise-btc-spot", f"{BTC}_end"].iloc[0]) / 0.001
    )
    assert sum(d["lots"] for _, _, d in last.out_edges(BTC, data=True)) == round(ends.sum() / 0.001)
    assert set(nx.descendants(last, BTC)) >= {f"funds/{j}" for j in range(20)} | {ETH}  # through holders of both
    with pytest.raises(ValueError, match="no network until"):
        result.graph("2026-02-04")


def test_the_network_is_exported_at_chosen_times() -> None:
    times = ["2026-02-05T00:40Z", "2026-02-05T00:10:20Z", "2026-02-05T00:00Z", "2026-02-05T00:40Z", "2026-02-05T01:00Z"]
    made = abm.Market(two_assets(hours=1, recording={"interval": "1min", "network": times}))
    made.run_for("40min")
    then = made.contagion.network()
    made.run_for("20min")
    result = made.result()
    exports = [f"{time:%H:%M:%S}" for time in sorted(result.nodes["time"].unique())]
    assert exports == ["00:00:00", "00:10:20", "00:40:00", "01:00:00"]
    assert nx.utils.graphs_equal(result.graph("2026-02-05T00:40"), then)
    assert nx.utils.graphs_equal(result.graph("2026-02-05T00:59"), then)
    assert not nx.utils.graphs_equal(result.graph("2026-02-05T00:39"), then)
    assert nx.utils.graphs_equal(result.graph("2026-02-05T00:39"), result.graph("2026-02-05T01:10:20+01:00"))


def test_what_the_insurance_fund_took_over_is_in_the_network() -> None:
    """A crash in thin books: the fund holds positions, and the lots still add up to nothing."""
    perpetual = derivative("perpetual", BTC, 70_000, funding={})
    scenario = two_assets(
        hours=1,
        instruments={
            BTC: {"tick": 0.01, "lot": 0.001, "max_price": 700_000, "reference_price": 70_000},
            "btc-perp": perpetual | {"reference_price": 70_000},
        },
        fundamentals={BTC: {"volatility": 0.0}, "btc-perp": {"of": BTC}},
        news={
            "calendar": [
                {"at": "2026-02-05T00:20Z", "kind": "other", "what": "a crash", "moves": {BTC: -0.15}, "over": "2min"}
            ]
        },
        traders={
            "makers-eth-spot": None,
            "noise-eth-spot": None,
            "funds": None,
            "makers-btc-spot": {
                "kind": "market_makers",
                "books": {BTC: {"depth_usd": 1e6}, "btc-perp": {"depth_usd": 1e6}},
            },
            "retail_leverage": {"accounts": 1_000, "longs": 3e7, "shorts": 1e6, "leverage": {"scale": 2.0}},
            "basis_arbitrage": {},
        },
    )
    made = abm.Market(scenario)
    made.run_for("1h")
    graph, fund = made.contagion.network(), made.exchange.fund
    assert made.exchange.accounts.position[fund].any()
    lots = [d["lots"] for _, _, d in graph.out_edges("btc-perp", data=True) if d["channel"] == EXPOSURE]
    assert sum(lots) == int(made.exchange.accounts.position[:, 1].sum()) == 0
    assert graph["btc-perp"]["house:insurance"][EXPOSURE]["lots"] == int(made.exchange.accounts.position[fund, 1])


def test_what_funds_borrow_outside_is_a_loan() -> None:
    made = abm.Market(two_assets(hours=1))
    graph, funds = made.contagion.network(), only(made, MultiAssetFunds)
    for k in range(funds.size):
        assert graph["broker:outside"][f"funds/{k}"]["loan"]["weight"] == pytest.approx(funds.debt[k])
        assert graph.nodes[f"funds/{k}"]["equity"] == pytest.approx(funds.capital[k], rel=1e-3)
    assert graph.nodes["broker:outside"]["kind"] == "broker"


def test_a_run_folder_keeps_the_network(tmp_path: Path) -> None:
    result = abm.run(two_assets(hours=1))
    result.save(tmp_path / "run")
    read = abm.read_result(tmp_path / "run")
    assert nx.utils.graphs_equal(read.graph(), result.graph())
    assert nx.utils.graphs_equal(read.graph("2026-02-05T00:30Z"), result.graph("2026-02-05"))


def test_graphml_is_written_and_read_back(tmp_path: Path) -> None:
    graph = abm.Market(two_assets(hours=1)).contagion.network()
    write_graphml(graph, tmp_path / "net.graphml")
    read = read_graphml(tmp_path / "net.graphml")
    assert nx.utils.graphs_equal(read, graph)
    plain = nx.read_graphml(tmp_path / "net.graphml", force_multigraph=True)
    plain.graph.clear()  # defaults of attributes
    assert nx.utils.graphs_equal(plain, graph)
    assert nx.pagerank(nx.DiGraph(read), weight="weight")  # any function of networkx works on it


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no xml", "not GraphML"),
        ("kind", "node a has no kind"),
        ("weight", "edge a -> b needs a channel and a weight"),
        ("twice", "edge a -> b stands twice for x; add the weights up"),
    ],
)
def test_a_bad_graphml_file_is_said_in_one_line(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "bad.graphml"
    graph = nx.MultiDiGraph()
    graph.add_node("a", **({} if content == "kind" else {"kind": "asset"}))
    graph.add_node("b", kind="asset")
    for key in ("x", "y") if content == "twice" else ("x",):
        graph.add_edge("a", "b", key, channel="x", **({"weight": 1.0} if content == "twice" else {}))
    nx.write_graphml(graph, path) if content != "no xml" else path.write_text(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_graphml(path)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ switches


def test_channels_are_switched_off_in_the_scenario() -> None:
    on, off = (abm.Market(two_assets(hours=1, channels={"common_holders": switch})) for switch in (True, False))
    assert "common_holders" in on.contagion.channels
    assert "common_holders" not in off.contagion.channels
    assert not only(on, MultiAssetFunds).silent
    assert only(off, MultiAssetFunds).silent
    channels = {d["channel"] for *_, d in off.contagion.network().edges(data=True)}
    assert channels == {EXPOSURE, "loan", "market_making"}
    off.run_for("1h")
    assert (
        off.result().summary["traders"]["funds"]["btc-spot_start"]
        == off.result().summary["traders"]["funds"]["btc-spot_end"]
    )


def test_looking_at_the_network_changes_nothing() -> None:
    looked_at, plain = (
        abm.Market(two_assets(hours=1, recording={"interval": "1min", "network": "10min"})),
        two_assets(hours=1),
    )
    for _ in range(6):
        looked_at.run_for("10min")
        looked_at.contagion.network()
    assert looked_at.result().summary["event_log_hash"] == abm.run(plain).summary["event_log_hash"]


def test_edges_weigh_what_they_say() -> None:
    news = {"news": {"factors": {"crypto": 0.1}}, "loadings": {ETH: {"crypto": -0.7}}}
    made = abm.Market(two_assets(hours=1, **news))
    made.run_for("10min")
    graph, view, funds = made.contagion.network(), made.view(), only(made, MultiAssetFunds)
    assert graph["factor:crypto"][ETH]["news"]["weight"] == -0.7
    for k in range(funds.size):
        held = graph[f"funds/{k}"][BTC]["common_holders"]["weight"]
        assert held == pytest.approx(funds.holdings(BTC)[k] * view[BTC].mid)
        assert held == pytest.approx(graph[BTC][f"funds/{k}"][EXPOSURE]["weight"])
    firms = [graph[f"makers-{ETH}/{k}"][ETH]["market_making"]["weight"] for k in range(4)]
    assert firms == pytest.approx([5e6] * 4)  # 20 million among four firms of equal capital


def test_margin_in_use_is_an_edge_from_the_house() -> None:
    silver = derivative("future", BTC, 77.4, brackets=[{"leverage": 5, "maintenance": 0.1}]) | {"tick": 0.001, "lot": 1}
    made, _ = market({}, {SILVER: silver | {"max_price": 10_000}}, hours=1.0, step="1min")
    holder = abm.Trader(made, "holder", abm.TraderConfig(instrument=SILVER), cash=50_000.0)
    holder.set_leverage(SILVER, 5)
    holder.buy(SILVER, 1_000)
    made.run_for("5min")
    used = made.contagion.network()["house:clearing"]["holder"]["margin_notices"]["weight"]
    assert used == pytest.approx(77.4 * 1_000 / 5, rel=0.01)


def test_a_switch_leaves_the_draws_of_others_as_they_were() -> None:
    """Common random numbers: without any fund, a channel that only funds carry changes nothing."""
    hashes = {
        abm.run(two_assets(hours=1, channels=channels, traders={"funds": None})).summary["event_log_hash"]
        for channels in ({}, {"common_holders": False}, {"flight": False, "arbitrage": False})
    }
    assert len(hashes) == 1


def test_firms_without_the_channel_have_capital_of_their_own_for_each_underlying() -> None:
    books = {BTC: {"depth_usd": 15e6}, ETH: {"depth_usd": 5e6}}
    makers = {"makers": {"kind": "market_makers", "accounts": 2, "capital": [4e7, 8e7], "books": books}}
    none = {"makers-btc-spot": None, "makers-eth-spot": None}
    shared, apart = (
        abm.Market(two_assets(hours=1, traders={**none, **makers}, channels={"market_making": on}))
        for on in (True, False)
    )
    assert [p.name for p in shared.populations if isinstance(p, MarketMakers)] == ["makers"]
    firms = {p.name: p for p in apart.populations if isinstance(p, MarketMakers)}
    assert list(firms) == ["makers-btc", "makers-eth"]
    assert firms["makers-btc"].config.capital == (3e7, 6e7)
    assert firms["makers-eth"].config.capital == (1e7, 2e7)
    apart.run_for("10min")
    assert apart.result().audit.passed
    alone = [
        abm.run(two_assets(hours=1, channels={"market_making": on})).summary["event_log_hash"] for on in (True, False)
    ]
    assert alone[0] == alone[1]  # firms of one underlying are what they were
    noise = {"kind": "noise", "accounts": 1}
    with pytest.raises(abm.ScenarioError, match="a part of makers is called so; choose another"):
        abm.Market(two_assets(traders={**none, **makers, "makers-btc": noise}, channels={"market_making": False}))
    assert all(apart.view()[name].bid > 0 for name in (BTC, ETH))


# ------------------------------------------------------------------ news


def notice_of(instrument: str, before: float) -> dict[str, Any]:
    at = "2026-02-05T00:30Z"
    return {
        "margin_notices": {
            "calendar": [{"instrument": instrument, "announced": at, "at": at, "before": before, "after": 0.2}]
        }
    }


def test_events_move_values_by_their_loadings() -> None:
    news = {
        "factors": {"equities": 0.0},
        "calendar": [
            {
                "at": "2026-02-05T00:30Z",
                "kind": "labour",
                "what": "layoffs",
                "moves": {"equities": -0.02},
                "over": "10min",
            },
            {"at": "2026-02-05T00:45Z", "kind": "other", "what": "one asset alone", "moves": {ETH: 0.01}},
            {"at": "2026-02-04T00:45Z", "kind": "other", "what": "before the start", "moves": {BTC: 0.5}},
            {"at": "2026-02-04T23:00Z", "kind": "other", "what": "half over", "moves": {ETH: 0.2}, "over": "90min"},
        ],
    }
    walls = {
        "news": news,
        "fundamentals": {BTC: {"volatility": 0.0, "loadings": {"equities": 1.5}}, ETH: {"volatility": 0.0}},
    }
    made = abm.Market(two_assets(hours=1, traders=dict.fromkeys(two_assets(hours=1).traders), **walls))
    values = {}
    for minute in (0, 29, 35, 41, 46):
        made.run_for(minute * 60 / 10 - made.time) if minute * 6 > made.time else None
        values[minute] = [made.fundamental(BTC) / 70_000, made.fundamental(ETH) / 2_000]
    left = 0.2 / 90  # a minute, of what was half over at the start, until 00:30
    assert values[0] == pytest.approx([1.0, 1.0])
    assert values[29] == pytest.approx([1.0, np.exp(29 * left)])
    assert values[35] == pytest.approx([np.exp(-0.015), np.exp(30 * left)])
    assert values[41] == pytest.approx([np.exp(-0.03), np.exp(30 * left)])
    assert values[46] == pytest.approx([np.exp(-0.03), np.exp(30 * left + 0.01)])


def test_an_event_at_the_first_instant_counts() -> None:
    crash = {"at": "2026-02-05T00:00Z", "kind": "other", "what": "at once", "moves": {BTC: -0.1}}
    made = abm.Market(two_assets(news={"calendar": [crash]}, fundamentals={BTC: {"volatility": 0.0}}))
    assert made.fundamental(BTC) == pytest.approx(70_000 * np.exp(-0.1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"news": {"factors": {"f": -0.5}}}, "news.factors.f"),
        (
            {"news": {"calendar": [{"at": "2026-02-05", "kind": "other", "what": "x", "moves": {"btc-spot": -1e9}}]}},
            "moves",
        ),
        (
            {"news": {"calendar": [{"at": "2026-02-05", "kind": "other", "what": "x", "moves": {"gold": 1}}]}},
            "neither one of news.factors",
        ),
        ({"fundamentals": {"btc-spot": {"loadings": {"f": 1}}}}, "'f' is not one of news.factors"),
        ({"fundamentals": {"btc-spot": {"ratio": 2}}}, "name that by of"),
        ({"channels": {"flight": "maybe"}}, "write on, off or a mapping"),
        ({"channels": notice_of("btc-spot", 0.1)}, "btc-spot is not an instrument with margin here"),
        ({"channels": {"sentiment": {"graph": "nothing.graphml"}}}, "channels.sentiment.graph"),
        ({"recording": {"network": 0.01}}, "recording.network must be a whole number of steps"),
        ({"recording": {"network": "often"}}, "recording.network: 'often' is neither a duration such as 1h nor a list"),
        ({"recording": {"network": ["noon"]}}, "recording.network: 'noon' is not a moment; write one such as"),
        (
            {"recording": {"network": ["2026-02-05T02:00Z"]}},
            "recording.network: 2026-02-05T02:00:00Z is not within the run (clock.start to clock.end); leave it out",
        ),
        (
            {"recording": {"network": ["2026-02-05T00:00:00.5Z"]}},
            "is not the beginning of a step (clock.step); move it",
        ),
        ({"traders": {"btc-spot": {"kind": "noise"}}}, "an instrument has this name"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(abm.ScenarioError) as caught:
        abm.Market(abm.load("first-hour", **changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ margin notices


def notice(hours: float, after: float = 0.18) -> dict[str, Any]:
    at = pd.Timestamp("2026-02-05T00:00Z") + pd.Timedelta(hours=hours)
    return {
        "margin_notices": {
            "calendar": [{"instrument": SILVER, "announced": at, "at": at, "before": 0.15, "after": after}]
        }
    }


@pytest.mark.parametrize("both", [True, False])
def test_a_margin_notice_on_silver_reaches_bitcoin_through_holders_of_both_alone(both: bool) -> None:
    """Prices are set by walls, so that nothing else can carry it."""
    weights = [{BTC: 0.5, SILVER: 0.5}] if both else [{BTC: 1.0}, {SILVER: 1.0}]
    funds = {
        f"funds-{k}": {
            "kind": "multi_asset_funds",
            "accounts": 4,
            "capital": 40e6,
            "style": "leverage",
            "leverage": [2, 2],
            "weights": held,
            "constrained": 1.0,
            "band": 0.02,
        }
        for k, held in enumerate(weights)
    }
    silver = derivative("future", "silver-spot", 77.4, brackets=[{"leverage": 100 / 15, "maintenance": 0.12}])
    instruments = {
        "silver-spot": {"tick": 0.001, "lot": 1, "max_price": 10_000, "reference_price": 77.4},
        SILVER: silver | {"tick": 0.001, "lot": 1, "max_price": 10_000},
    }
    counterparty = {"basis_arbitrage": {"spot": "silver-spot", "instrument": SILVER, "capital": 200e6}}
    made, _ = market({**funds, **counterparty}, instruments, hours=6.0, step="1min", channels=notice(2.0))
    made.run_for("2h")
    assert volume(made, "margin_notice") == 0.0
    made.run_for("4h")
    assert volume(made, "margin_notice", SILVER) > 0.0
    assert (volume(made, "margin_notice", BTC) > 0.0) == both
    assert made.result().audit.passed


def test_of_futures_only_the_margin_is_raised_by_selling() -> None:
    """Gold sold to keep silver brings its margin, not its worth: .2 of it, where coins would bring all."""
    future = derivative(
        "future", BTC, 77.4, mark={"index": {}}, brackets=[{"leverage": 100 / 15, "maintenance": 0.12}]
    ) | {
        "tick": 0.001,
        "lot": 1,
    }
    instruments = {name: future | {"max_price": 10_000} for name in (SILVER, "gold")}
    fund = {
        "kind": "multi_asset_funds",
        "accounts": 1,
        "capital": 40e6,
        "style": "leverage",
        "leverage": [1, 1],
        "weights": {SILVER: 0.5, "gold": 0.5},
        "account_leverage": 5,
        "constrained": 1.0,
        "elsewhere": 1.0,
    }
    hedgers = {f"hedgers-{name}": {"kind": "hedgers", "instrument": name, "margin": 2.0} for name in instruments}
    made, _ = market({"funds": fund, **hedgers}, instruments, hours=4.0, step="1min")
    mine = only(made, MultiAssetFunds)
    silver, gold = mine.holdings(SILVER).sum() * 77.4, mine.holdings("gold").sum() * 77.4
    mine.margin_notice(SILVER, 0.15, 0.18)
    made.run_for("3h")
    assert mine.holdings(SILVER).sum() * 77.4 == pytest.approx(silver, rel=1e-3)
    sold = gold - mine.holdings("gold").sum() * 77.4
    assert sold / 5 == pytest.approx((0.18 - 0.15) * silver, rel=0.01)


def test_the_house_asks_for_the_new_margin_and_liquidates_who_lacks_it() -> None:
    silver = derivative("future", BTC, 77.4, brackets=[{"leverage": 100 / 15, "maintenance": 0.12}]) | {
        "tick": 0.001,
        "lot": 1,
    }
    made, walls = market(
        {}, {SILVER: silver | {"max_price": 10_000}}, hours=3.0, step="1min", channels=notice(1.0, after=0.25)
    )
    assert isinstance(walls[SILVER], Wall)
    holder = abm.Trader(made, "holder", abm.TraderConfig(instrument=SILVER), cash=77.4 * 1_000 * 0.152)
    holder.set_leverage(SILVER, 6.6)
    holder.buy(SILVER, 1_000)
    made.run_for("59min")
    assert holder.position(SILVER) == 1_000
    made.run_for("30min")
    assert holder.position(SILVER) < 1_000  # .12 x .25 / .15 = .20 of maintenance, more than it has
    assert made.result().summary["liquidations"]["liquidated"] > 0


# ------------------------------------------------------------------ what channels know of traders


def test_channels_ask_traders_for_their_links_and_know_no_kind_of_them() -> None:
    """Folders have an order: traders may know the network, not the other way round."""
    for path in (Path(abm.__file__).parent / "contagion").rglob("*.py"):
        assert not re.search(r"^(from|import) abm\.agents", path.read_text(), re.MULTILINE), path
    made, _ = market({"mine": {"kind": "test_linked"}}, channels={"credit": True})
    edges = {edge[:2] for edge in made.contagion.network().edges(data="channel") if edge[2] == "credit"}
    assert edges == {("hub:mine", "mine")}


@abm.trader("test_linked")
class Linked(abm.Population):
    """Someone whose books beside the ledger link him to a hub."""

    channel = "credit"
    config: abm.TraderConfig

    def links(self) -> Iterable[Edge]:
        return [Edge("hub:mine", self.name, 1.0)]


# ------------------------------------------------------------------ sessions


def at_the_opening(channel: bool, night: float = 0.9) -> tuple[abm.Market, pd.DataFrame]:
    """Funds hold bitcoin, which moves in the night, and shares, which others value by news; trades of shares until ten minutes after they open."""
    traders = {
        "funds": {
            "kind": "multi_asset_funds",
            "accounts": 3,
            "capital": 30e6,
            "style": "leverage",
            "leverage": [2, 2],
            "weights": {BTC: 0.5, "ndx": 0.5},
            "band": 0.0,
        },
        "patient": {"kind": "value", "instrument": "ndx", "accounts": 200, "demand": 50e6},
        "informed": {
            "kind": "fundamentalists",
            "instrument": "ndx",
            "accounts": 100,
            "cash": 10e6,
            "coins": 1e5,
            "look": "3min",
            "noise": 0.003,
        },
    }
    news = {"ndx": {"volatility": 0.1}}
    on = {"common_holders": channel}
    made, walls = market(traders, {"ndx": NYSE}, hours=24.0, step="1min", channels=on, fundamentals=news, seed=3)
    walls["ndx"].size_of.update(buy=0.0, sell=0.0)  # patient traders alone
    made.run_for("12h")
    walls[BTC].price *= night
    made.run_for("2h")
    assert made.exchange.view().phase[made.exchange.index("ndx")] == Phase.CLOSED
    made.run_for("40min")
    trades = made.result().trades
    return made, trades[trades["instrument"] == "ndx"]


def test_a_closed_market_receives_the_pressure_at_its_next_opening() -> None:
    """A fund that lost on bitcoin in the night sells shares in the auction by which New York opens, at 14:30, and not before."""
    made, trades = at_the_opening(channel=True)
    assert volume(made, "deleveraging", BTC) > 0.0
    opening = trades[trades["aggressor"] == "auction"]
    assert set(opening["time"]) == {pd.Timestamp("2026-02-05T14:30Z")}
    assert trades["time"].min() == opening["time"].min()
    sold = opening.loc[opening["maker_reason"] == "deleveraging", "quantity"].sum()
    # What half of a tenth takes from the equity, times the leverage, is what shares lose of their half: 2 x 2 x .05 x 30e6 / 2
    assert sold == pytest.approx(3e6 / 100, rel=1e-3)
    _, without = at_the_opening(channel=False)
    assert without["aggressor"].iloc[0] == "auction"
    assert opening["price"].iloc[0] < 0.99 * without["price"].iloc[0]


def test_nothing_reaches_a_halted_market() -> None:
    made, walls = market(
        {
            "funds": {
                "kind": "multi_asset_funds",
                "accounts": 3,
                "capital": 30e6,
                "style": "leverage",
                "weights": {BTC: 1, ETH: 1},
            }
        },
        {ETH: {"tick": 0.01, "lot": 0.001, "max_price": 100_000, "reference_price": 2_150}},
        hours=6.0,
        step="1min",
    )
    set_phase(made, ETH, Phase.HALTED)
    walls[BTC].price *= 0.9
    made.run_for("3h")
    assert volume(made, "deleveraging", BTC) > 0.0
    assert volume(made, "deleveraging", ETH) == 0.0


# ------------------------------------------------------------------ futures


@pytest.mark.parametrize("hours", [30.0, 22.0])
def test_futures_pay_the_days_profit_as_their_session_closes(hours: float) -> None:
    """Before the close a profit is in the position alone; after it, it is cash, also where the run ends with the session."""
    session = {"calendar": {"opens": "18:00", "closes": "17:00"}}
    future = (
        derivative("future", BTC, 77.4, mark={"index": {}}) | {"tick": 0.001, "lot": 1, "max_price": 10_000} | session
    )
    made, walls = market({}, {SILVER: future}, hours=hours, step="1min")
    holder = abm.Trader(made, "holder", abm.TraderConfig(instrument=SILVER), cash=100_000.0)
    holder.buy(SILVER, 1_000)
    made.run_for("10min")
    before = float(holder.cash[0])
    walls[SILVER].price += 2.0
    made.run_for("21h")
    assert float(holder.cash[0]) == before
    made.run_for("50min")  # New York's 17:00 is 22:00
    assert float(holder.cash[0]) == pytest.approx(before + 2_000.0, rel=0.01)
    assert holder.equity == pytest.approx(100_000.0 + 2_000.0, rel=1e-3)
    assert made.result().audit.passed
