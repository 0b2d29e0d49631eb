"""The order of the chain: when each stage of a cascade set in, by rules that are written down, and the tree of what set off what.

All is read from the tables of a `Result`; nothing here knows what a run was meant to show.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import networkx as nx
import numpy as np
import pandas as pd

from abm.clock import seconds

type Forest = nx.DiGraph[int]


@dataclass(frozen=True, slots=True)
class Rule:
    """When a stage sets in: an indicator, over a window that ends now, reaches a threshold and stays there for a while.

    Indicators: `flow` is the part that takers with certain reasons have of all that takers trade; `depth` what is bid within
    `recording.depth_bps` of the mid, of its median in the calm, and falls to the threshold. A flow must besides be `over` times the largest that
    there was in the calm, since some of it is usual: funds rebalance when New York opens.
    """

    indicator: Literal["flow", "depth"]
    threshold: float
    window: str
    """Such as `"1h"`; bars are added up or averaged over it."""
    stays: str
    """How long the threshold has to be passed without a break."""
    reasons: tuple[str, ...] = ()
    """Of `flow`: reasons of takers."""
    over: float = 1.5
    """Of `flow`: how many times the largest in the calm it must be."""
    elsewhere: bool = False
    """Whether other assets than the first are looked at, instead of it."""


RULES: Mapping[str, Rule] = {
    "institutional_exit": Rule("flow", 0.05, "1h", "10min", ("redemption",)),
    "liquidity_drought": Rule("depth", 0.7, "30min", "10min"),
    "panic": Rule("flow", 0.05, "1h", "10min", ("panic",)),
    "market_making_collapse": Rule("depth", 0.3, "5min", "5min"),
    "forced_liquidation": Rule("flow", 0.05, "1h", "10min", ("liquidation", "margin_call")),
    "cross_market_sale": Rule(
        "flow", 0.02, "1h", "10min", ("deleveraging", "margin_notice", "margin_call"), elsewhere=True
    ),
}
"""The stages of an institutional-exit cascade. The thresholds are ours [A], and the same for every run."""


def stages(
    bars: pd.DataFrame,
    flows: pd.DataFrame,
    asset: str = "btc",
    calm: str = "1d",
    rules: Mapping[str, Rule] = RULES,
) -> pd.DataFrame:
    """When each stage set in.

    Args:
        bars: Of a `Result`: time (of the beginning of a bar), instrument, bid_depth, spread_bps.
        flows: Of the same: time, instrument, role, reason, notional.
        asset: The first asset: instruments whose names up to a dash are this; the others are elsewhere.
        calm: The first part of the run, whose medians are called calm. As others are held against it, no stage sets in within it.
        rules: By stage.

    Returns:
        One row for each stage, in the order in which they set in, those that never did last: stage; onset (UTC), the end of the bar in which the
        rule was first met, or NaT; worst, the highest (of depth: lowest) value of the indicator since the calm, and at, when; threshold.

    Raises:
        ValueError: There are no bars of the asset, or fewer than two in the calm.
    """
    mine = bars["instrument"].astype(str).str.partition("-")[0] == asset
    if not mine.any():
        raise ValueError(f"no bars of {asset!r}; there are {', '.join(sorted(set(bars['instrument'].astype(str))))}")
    times = pd.DatetimeIndex(np.sort(bars["time"].unique()))
    calm_until = pd.Timestamp(times[0]) + pd.Timedelta(seconds(calm), "s")
    if len(times) and times[-1] < calm_until:
        raise ValueError(f"calm: the run is over within its first {calm}; choose a shorter time")
    if (times < calm_until).sum() < 2:
        raise ValueError(f"calm: the first {calm} of the run have fewer than two bars; choose a longer time")
    bar: pd.Timedelta = pd.Timestamp(times[1]) - pd.Timestamp(times[0])
    rows = []
    for stage, rule in rules.items():
        values = _indicator(rule, bars, flows, mine, asset, times, calm_until, bar)
        falls = rule.indicator == "depth"
        usual = 0.0 if rule.indicator != "flow" else rule.over * float(values[times < calm_until].max())
        limit = max(rule.threshold, usual)
        values = values[times >= calm_until]
        passed = values <= limit if falls else values >= limit
        stays = max(1, round(seconds(rule.stays) / bar.total_seconds()))
        met = np.flatnonzero(passed.rolling(stays).sum() >= stays)
        numbers = values.to_numpy(np.float64)
        worst = int(numbers.argmin() if falls else numbers.argmax())
        onset = values.index[met[0]] + bar if len(met) else pd.NaT
        rows.append((stage, onset, float(numbers[worst]), values.index[worst] + bar, limit))
    table = pd.DataFrame(rows, columns=["stage", "onset", "worst", "at", "threshold"])
    return table.sort_values("onset", kind="stable", na_position="last", ignore_index=True)


def _indicator(
    rule: Rule,
    bars: pd.DataFrame,
    flows: pd.DataFrame,
    mine: "pd.Series[bool]",
    asset: str,
    times: pd.DatetimeIndex,
    calm_until: pd.Timestamp,
    bar: pd.Timedelta,
) -> "pd.Series[float]":
    """The indicator of one rule after each bar; 0, or 1 of depth, where nothing is known."""
    n = max(1, round(seconds(rule.window) / bar.total_seconds()))
    if rule.indicator == "flow":
        taken = flows[flows["role"] == "taker"]
        here = taken["instrument"].astype(str).str.partition("-")[0] == asset
        taken = taken[~here if rule.elsewhere else here]
        forced = taken[taken["reason"].astype(str).isin(rule.reasons)]
        part, whole = (
            t.groupby("time")["notional"].sum().reindex(times, fill_value=0.0).rolling(n, min_periods=1).sum()
            for t in (forced, taken)
        )
        return (part / whole.where(whole > 0)).fillna(0.0)
    depth = bars[~mine if rule.elsewhere else mine].groupby("time")["bid_depth"].sum().reindex(times)
    usual = depth[times < calm_until].median()
    return (depth.rolling(n, min_periods=1).mean() / usual).fillna(1.0)


# ------------------------------------------------------------------ what set off what


def causes(liquidations: pd.DataFrame) -> Forest:
    """The forest of liquidations: an edge from each to those that its orders set off, across instruments.

    Nodes are the numbers of the table's rows of `what` liquidated, with time, instrument, trader, account and notional (currency at the mark). A
    root is one that a message of somebody else's set off.

    Args:
        liquidations: Of a `Result`.
    """
    forest: Forest = nx.DiGraph()
    rows = liquidations[liquidations["what"].astype(str) == "liquidated"]
    for row in rows.to_dict("records"):
        forest.add_node(
            int(row["number"]),
            time=row["time"],
            instrument=str(row["instrument"]),
            trader=str(row["trader"]),
            account=int(row["account"]),
            notional=float(row["quantity"] * row["mark"]),
        )
    for number, parent in zip(rows["number"].tolist(), rows["parent"].tolist(), strict=True):
        if parent and parent in forest:
            forest.add_edge(int(parent), int(number))
    return forest


def branches(forest: Forest) -> pd.DataFrame:
    """The trees of a forest, largest first: root, time, instrument, liquidations, notional (currency), depth in generations, instruments."""
    root: dict[int, int] = {}
    depth: dict[int, int] = {}
    for node in nx.topological_sort(forest):
        parent = next(forest.predecessors(node), None)
        root[node], depth[node] = (node, 1) if parent is None else (root[parent], depth[parent] + 1)
    columns = ["root", "time", "instrument", "liquidations", "notional", "depth", "instruments"]
    rows = [
        (root[node], depth[node], *(forest.nodes[node][key] for key in ("instrument", "notional"))) for node in root
    ]
    nodes = pd.DataFrame(rows, columns=["root", "depth", "instrument", "notional"])
    trees = nodes.groupby("root").agg(
        liquidations=("depth", "size"),
        notional=("notional", "sum"),
        depth=("depth", "max"),
        instruments=("instrument", "nunique"),
    )
    for key in ("time", "instrument"):  # of its first
        trees[key] = [forest.nodes[node][key] for node in trees.index]
    table = trees.reset_index()[columns]
    return table.sort_values(["notional", "root"], ascending=[False, True], ignore_index=True)


def across(forest: Forest) -> "nx.DiGraph[str]":
    """From which instrument liquidations reached which: an edge with `count` and `notional` (currency of those set off) for each pair."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(sorted({data["instrument"] for _, data in forest.nodes(data=True)}))
    for parent, child in forest.edges:
        u, v = forest.nodes[parent]["instrument"], forest.nodes[child]["instrument"]
        before = graph.get_edge_data(u, v, {"count": 0, "notional": 0.0})
        graph.add_edge(u, v, count=before["count"] + 1, notional=before["notional"] + forest.nodes[child]["notional"])
    return graph
