"""The sections of a report on what drove a run: who moved the price, stages, liquidations, the network."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from abm.contagion.measures import importance
from analysis.cascade_figure import cascade_figure, deepest_tree
from analysis.figures import moves_by_hour
from analysis.network_figure import network_figure
from analysis.report.page import Lacking, Parts, Picture, Table, picture
from analysis.report.story import when
from analysis.report.taken import Gist, Shown, interval
from analysis.wording import number

PARTS, BRANCHES, NODES = 14, 8, 10
"""Rows of the tables of who moved the price, of the trees of liquidations, and of the nodes of the network."""
FALL = 0.1
"""Of each asset, as `abm network` has it."""


def moved(shown: Shown, gists: Sequence[Gist]) -> Parts:
    """Who moved the mid of the first instrument."""
    found, first = shown.moved, shown.first
    if found.hours.empty:
        raise Lacking(f"the mid of {first} never moved")
    currency = shown.scenario["instruments"][first]["currency"]
    parts = found.parts
    rows = [
        (part.kind, part.reason, *(f"{value:+,.2f}" for value in (part.trades, part.quotes, part.change)))
        for part in parts.head(PARTS).itertuples()
    ]
    rest = parts.iloc[PARTS:][["trades", "quotes", "change"]].sum()
    rows += [(f"{len(parts) - PARTS} others", "", *(f"{value:+,.2f}" for value in rest))] if len(parts) > PARTS else []
    rows.append(("all", "", *(f"{parts[column].sum():+,.2f}" for column in ("trades", "quotes", "change"))))
    caption = f"The way of the mid of {first} ({currency}) by whose orders moved it; {round(found.residual, 2) + 0.0:,.2f} is not accounted for."
    told: list[str | Table | Picture] = [
        "Each change of the mid belongs to the order that made it: to the taker where it traded, to who placed or withdrew a quote where it "
        "did not. That says who moved the price, not why: quotes also move because others traded.",
        picture(moves_by_hour(shown.result, found), f"Whose orders moved the mid of {first}, by hour."),
        Table(caption, ("moved by", "reason", "by trades", "by quotes", "together"), rows, {0, 1}),
    ]
    return [*told, _parts_of_all(gists, first, currency)] if len(gists) > 1 else told


def _parts_of_all(gists: Sequence[Gist], first: str, currency: str) -> Table:
    table = pd.concat([run.parts for run in gists], axis=1).fillna(0.0)
    order = table.median(axis=1).abs().sort_values(ascending=False, kind="stable").index[:PARTS]
    rows = [(*part, interval(table.loc[[part]].to_numpy()[0].tolist(), currency)) for part in order]
    return Table(
        f"The same over {len(gists)} runs ({first}, {currency}): median, and where nine of ten lie.",
        ("moved by", "reason", "together"),
        rows,
        {0, 1},
    )


def stages(shown: Shown, gists: Sequence[Gist]) -> Parts:
    """When the stages of a cascade set in."""
    if isinstance(shown.stages, str):
        raise Lacking(shown.stages)
    several = [run.onsets for run in gists if run.onsets is not None] if len(gists) > 1 else []
    rows = []
    for stage in shown.stages.itertuples():
        onset = "never" if pd.isna(stage.onset) else when(stage.onset)
        row = (
            str(stage.stage).replace("_", " "),
            onset,
            f"{stage.worst:.3g}",
            when(stage.at),
            f"{stage.threshold:.3g}",
        )
        rows.append((*row, *([_onsets([run[str(stage.stage)] for run in several])] if several else [])))
    titles = ("stage", "set in", "worst", "at", "threshold", *(["over all runs"] if several else []))
    caption = "When each stage set in (UTC), by rules that are the same for every run, held against its first day."
    return [Table(caption, titles, rows, {0, 1, 3, 5})]


def _onsets(times: Sequence[pd.Timestamp]) -> str:
    known = sorted(time for time in times if not pd.isna(time))
    count = f"{len(known)} of {len(times)}"
    return f"{count}: {when(known[0])} to {when(known[-1])}" if known else count


def cascade(shown: Shown, gists: Sequence[Gist]) -> Parts:
    """Liquidations, and the trees they form."""
    if not any(each["margin"] for each in shown.scenario["instruments"].values()):
        raise Lacking("nothing is traded on margin here")
    if shown.trees.empty:
        raise Lacking("nobody was liquidated")
    rows = [
        (when(tree.time), tree.instrument, f"{tree.liquidations:,}", f"{tree.depth}", f"{tree.notional:,.0f}")
        for tree in shown.trees.head(BRANCHES).itertuples()
    ]
    caption = f"The largest of {len(shown.trees):,} trees, by what was sold on the book: a liquidation, those that its orders set off, and so on."
    told: list[str | Table | Picture] = [
        Table(caption, ("began", "in", "liquidations", "generations", "USD"), rows, {0, 1})
    ]
    closed = shown.closed.groupby("instrument", observed=True).agg(
        accounts=("account", "nunique"), notional=("notional", "sum")
    )
    told.append(
        Table(
            "What the clearing house closed or took over.",
            ("instrument", "accounts", "USD at the mark"),
            [
                (str(name), f"{each.accounts:,}", f"{each.notional:,.0f}")
                for name, each in closed.iterrows()
                if each.accounts
            ],
        )
    )
    tree = deepest_tree(shown.forest)
    if tree is None:
        told.append("No liquidation set off another one.")
    else:
        begins = when(min(time for _, time in tree.nodes(data="time")))
        title = f"{len(tree):,} liquidations from {begins} on"
        told.append(
            picture(
                cascade_figure(tree, title),
                "The tree of most generations: each liquidation below the one whose orders set it off.",
            )
        )
    return [*told, _cascades(gists)] if len(gists) > 1 else told


def _cascades(gists: Sequence[Gist]) -> Table:
    names = {
        "liquidations": "liquidations",
        "trees": "trees",
        "generations": "generations",
        "liquidated_accounts": "accounts",
        "liquidated_usd": "USD",
    }
    rows = [(name, interval([run.numbers[key] for run in gists], "")) for key, name in names.items()]
    return Table(f"Over {len(gists)} runs: median, and where nine of ten lie.", ("", "of the whole run"), rows)


def network(shown: Shown) -> Parts:
    """The contagion network at the end."""
    graph = shown.result.graph()
    if not graph.number_of_edges():
        raise Lacking("nobody holds anything at the end")
    kinds = Counter(kind for _, kind in graph.nodes(data="kind"))
    channels = Counter(channel for *_, channel in graph.edges(data="channel"))
    told = f"Nodes at the end of the run: {_counted(kinds)}. Edges by channel: {_counted(channels)}."
    caption = "Holders on the right, what they hold in the middle; lines of exposures are as wide as their worth."
    matters = importance(graph, FALL).sort_values("loss", ascending=False, kind="stable").head(NODES)
    rows = [
        (
            str(name),
            row.kind,
            number(row.size_, "USD"),
            "-" if pd.isna(row.debtrank) else f"{row.debtrank:.4f}",
            f"{row.failures:,}",
            number(row.loss, "USD"),
        )
        for name, row in zip(matters.index, matters.rename(columns={"size": "size_"}).itertuples(), strict=True)
    ]
    titles = ("node", "kind", "equity, or held", "DebtRank", "others fail", "others lose (USD)")
    fails = f"If each of these holders failed and sold all, or each of these assets fell by {FALL:.0%}: those that cost others most."
    return [
        told,
        picture(network_figure(graph, f"Contagion network of {shown.scenario['name']}"), caption),
        Table(fails, titles, rows, {0, 1}),
    ]


def _counted(counts: "Counter[str]") -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.most_common())
