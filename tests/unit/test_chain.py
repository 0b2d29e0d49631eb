"""The order of the chain, from tables made by hand, and the forest of liquidations, from those of a real cascade."""

import networkx as nx
import numpy as np
import pandas as pd
import pytest

import abm
from abm.contagion.chain import Rule, across, branches, causes, stages

START = pd.Timestamp("2026-02-05T00:00Z")


def tables(
    hours: int, depth: "np.ndarray[tuple[int], np.dtype[np.float64]]", flows: list[tuple[int, str, str, float]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bars of a minute with a given depth, and flows of takers: minute, instrument, reason, notional; noise trades 100 in each minute."""
    minutes = [START + pd.Timedelta(minutes=k) for k in range(hours * 60)]
    bars = pd.DataFrame({"time": minutes, "instrument": "btc-spot", "bid_depth": depth, "spread_bps": 1.0})
    usual = [(minute, asset, "taker", "noise", 100.0) for minute in minutes for asset in ("btc-spot", "gold")]
    some = [(minutes[k], asset, "taker", reason, amount) for k, asset, reason, amount in flows]
    return bars, pd.DataFrame(usual + some, columns=["time", "instrument", "role", "reason", "notional"])


def test_nothing_sets_in_where_nothing_happens() -> None:
    table = stages(*tables(24, np.full(1440, 5.0), []), calm="12h")
    assert table["onset"].isna().all()
    assert len(table) == 6


def test_stages_are_told_in_the_order_in_which_they_set_in() -> None:
    depth = np.full(1440, 10.0)
    depth[800:] = 6.0
    depth[900:] = 1.0
    flows = [(k, "btc-spot", "redemption", 20.0) for k in range(740, 1000)]
    flows += [(k, "btc-spot", "liquidation", 50.0) for k in range(950, 1000)]
    flows += [(k, "btc-spot", "panic", 50.0) for k in range(850, 1000)]
    flows += [(k, "gold", "deleveraging", 50.0) for k in range(1000, 1100)]
    flows += [(k, "btc-spot", "deleveraging", 50.0) for k in range(100, 1100)]  # at home: no sale elsewhere
    table = stages(*tables(24, depth, flows), calm="12h")
    assert table["stage"].tolist() == [
        "institutional_exit",
        "liquidity_drought",
        "panic",
        "market_making_collapse",
        "forced_liquidation",
        "cross_market_sale",
    ]
    onset = table.set_index("stage")["onset"]
    # Of five minutes three at 1 and two at 6 have a mean of 3, for the first time in bar 902; the fifth of such bars ends at 907
    assert onset["market_making_collapse"] == START + pd.Timedelta(minutes=907)
    # Mean of 30 minutes: 10 - 4 k / 30 <= 7 from k = 23 bars on, which is bar 822; ten bars later
    assert onset["liquidity_drought"] == START + pd.Timedelta(minutes=832)
    # In an hour of 60 x 100 of noise and k x 20: the part of k is .05 or more where 20 k >= .05 (6000 + 50 x 60 + 20 k), from k = 24 on
    assert onset["institutional_exit"] == START + pd.Timedelta(minutes=740 + 24 + 9)


def test_a_flow_that_is_usual_is_no_stage() -> None:
    """Each day for an hour funds rebalance; on the third day there is twice as much of it."""
    flows = [(day * 1440 + k, "gold", "deleveraging", 30.0) for day in (0, 1) for k in range(870, 930)]
    flows += [(2 * 1440 + k, "gold", "deleveraging", 90.0) for k in range(870, 930)]
    onset = stages(*tables(72, np.full(4320, 5.0), flows)).set_index("stage")["onset"]["cross_market_sale"]
    assert pd.Timestamp("2026-02-07T14:30Z") < onset < pd.Timestamp("2026-02-07T15:30Z")


def test_nothing_sets_in_within_the_calm() -> None:
    """A hole of the calm is no stage, nor is it the worst; one that lasts beyond it counts from its end on."""
    depth = np.full(600, 10.0)
    depth[60:90] = 0.5
    rules = {"drought": Rule("depth", 0.5, "1min", "10min")}
    bars, flows = tables(10, depth, [])
    row = stages(bars, flows, calm="4h", rules=rules).iloc[0]
    assert pd.isna(row["onset"])
    assert row["worst"] == 1.0
    bars["bid_depth"] = np.where(np.arange(600) < 230, 10.0, 1.0)
    row = stages(bars, flows, calm="4h", rules=rules).iloc[0]
    assert row["onset"] == START + pd.Timedelta(minutes=250)


def test_a_short_break_begins_the_time_anew() -> None:
    depth = np.full(600, 10.0)
    depth[300:308], depth[309:330] = 1.0, 1.0
    rules = {"drought": Rule("depth", 0.5, "1min", "10min")}
    bars, flows = tables(10, depth, [])
    onset = stages(bars, flows, calm="4h", rules=rules)["onset"][0]
    assert onset == START + pd.Timedelta(minutes=319)


def test_tables_without_the_asset_or_a_calm_are_refused() -> None:
    bars, flows = tables(2, np.full(120, 1.0), [])
    with pytest.raises(ValueError, match="no bars of 'eth'; there are btc-spot"):
        stages(bars, flows, asset="eth", calm="1h")
    with pytest.raises(ValueError, match="the run is over within its first 1d"):
        stages(bars, flows)
    with pytest.raises(ValueError, match="fewer than two bars"):
        stages(bars, flows, calm="30s")


def liquidation(number: int, parent: int, instrument: str = "btc-perp", quantity: float = 1.0) -> dict[str, object]:
    return {
        "number": number, "parent": parent, "instrument": instrument, "quantity": quantity, "mark": 100.0,
        "what": "liquidated", "time": START, "trader": "retail", "account": number,
    }  # fmt: skip


def test_the_forest_of_a_hand_made_table() -> None:
    rows = [
        liquidation(1, 0),
        liquidation(2, 1),
        liquidation(3, 1, "eth-perp"),
        liquidation(4, 3, "eth-perp", 2.0),
        liquidation(5, 0),
    ]
    rows.append(liquidation(6, 5) | {"what": "deleveraged"})
    forest = causes(pd.DataFrame(rows))
    assert sorted(forest.edges) == [(1, 2), (1, 3), (3, 4)]
    table = branches(forest)
    assert table[["root", "liquidations", "notional", "depth", "instruments"]].to_numpy().tolist() == [
        [1, 4, 500.0, 3, 2],
        [5, 1, 100.0, 1, 1],
    ]
    links = across(forest)
    assert links["btc-perp"]["eth-perp"] == {"count": 1, "notional": 100.0}
    assert links["eth-perp"]["eth-perp"] == {"count": 1, "notional": 200.0}
    assert branches(causes(pd.DataFrame(rows[:0], columns=list(rows[0])))).empty


def test_a_real_cascade_is_a_forest_of_all_its_liquidations() -> None:
    """Thin books and much leverage, so that liquidations set each other off."""
    perpetual = {
        "kind": "perpetual", "tick": 0.1, "lot": 0.001, "max_price": 250_000, "reference_price": 73_100,
        "margin": {"brackets": "btc", "mark": {"index": {"btc-spot": 1.0}}},
    }  # fmt: skip
    scenario = abm.load(
        "first-hour",
        instruments={"btc-perp": perpetual},
        fundamentals={"btc-spot": {"volatility": 3.0}, "btc-perp": {"of": "btc-spot"}},
        traders={
            "market_makers": {"books": {"btc-spot": {"depth_usd": 1e6}, "btc-perp": {"depth_usd": 1e6}}},
            "retail_leverage": {"accounts": 3_000, "longs": 4e7, "shorts": 1e7, "leverage": {"scale": 3.0}},
            "basis_arbitrage": {},
        },
    )
    table = abm.run(scenario).liquidations
    forest = causes(table)
    liquidated = table[table["what"] == "liquidated"]
    assert len(forest) == len(liquidated) > 20
    assert nx.is_forest(forest.to_undirected()) and nx.is_directed_acyclic_graph(forest)
    assert max(degree for _, degree in forest.in_degree()) <= 1
    assert forest.number_of_edges() > 0
    assert branches(forest)["liquidations"].sum() == len(liquidated)
    time = nx.get_node_attributes(forest, "time")
    assert all(time[parent] <= time[child] for parent, child in forest.edges)


@pytest.mark.parametrize("crossed", [True, False])
def test_one_liquidation_sets_off_another_in_a_second_asset_through_holders_of_both_alone(crossed: bool) -> None:
    """Crossed accounts hold two perpetuals: where the fall of one leaves them short, what is sold of the other liquidates who holds that alone.

    Where accounts as large hold but one of them each, nobody who has the second is liquidated.
    """
    instruments, fundamentals = {}, {}
    for coin, price in (("btc", 70_000.0), ("eth", 2_000.0)):
        spot = {"tick": 0.01, "lot": 0.001, "max_price": 10 * price, "reference_price": price}
        margin = {"brackets": "btc", "mark": {"index": {}}}
        instruments |= {f"{coin}-spot": spot, f"{coin}-perp": spot | {"kind": "perpetual", "margin": margin}}
        fundamentals |= {f"{coin}-spot": {"volatility": 0.0}, f"{coin}-perp": {"of": f"{coin}-spot"}}
    crash = {
        "at": "2026-02-05T00:30Z",
        "kind": "other",
        "what": "bitcoin alone",
        "moves": {"btc-spot": -0.12},
        "over": "10min",
    }
    books = {name: {"depth_usd": 1e6, "impact_bps": 20.0} for name in instruments}
    funds = {"kind": "multi_asset_funds", "accounts": 40, "style": "leverage", "account_leverage": 50, "cushion": 0.0}
    both = funds | {"capital": 8e5, "leverage": [18, 18], "weights": {"btc-perp": 0.5, "eth-perp": 0.5}}
    one_each = {f"only-{name}": both | {"capital": 4e5, "weights": {name: 1.0}} for name in ("btc-perp", "eth-perp")}
    holders = {"both": both} if crossed else one_each
    alone = funds | {"capital": 2e5, "leverage": [25, 25]}
    scenario = abm.Scenario.model_validate(
        {
            "name": "two-perpetuals",
            "clock": {"start": START.isoformat(), "end": "2026-02-05T02:00Z", "step": "5s"},
            "instruments": instruments,
            "fundamentals": fundamentals,
            "news": {"calendar": [crash]},
            "channels": {"common_holders": False},
            "traders": {
                "makers": {"kind": "market_makers", "accounts": 4, "capital": [5e7] * 4, "books": books},
                **{who: terms | {"instrument": next(iter(terms["weights"]))} for who, terms in holders.items()},
                "alone": alone | {"instrument": "eth-perp"},
                "basis_btc": {"kind": "basis_arbitrage", "instrument": "btc-perp", "spot": "btc-spot"},
                "basis_eth": {"kind": "basis_arbitrage", "instrument": "eth-perp", "spot": "eth-spot"},
            },
        }
    )
    result = abm.run(scenario)
    forest = result.causes()
    assert result.audit.passed
    links = across(forest)
    assert (links.has_edge("btc-perp", "eth-perp") or links.has_edge("eth-perp", "btc-perp")) == crossed
    assert branches(forest)["instruments"].max() == (2 if crossed else 1)
    assert (result.liquidations["instrument"] == "eth-perp").any() == crossed
