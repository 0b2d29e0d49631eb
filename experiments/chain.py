"""`abm chain` and `abm network`: in what order a cascade went, and who was linked to whom, from the folder of a run."""

import json as json_format
from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.tables import print_rows

TREES = 5
"""Trees of liquidations that are shown, unless others are asked for."""

NODES = 10
"""Nodes of the network that are shown, out of those whose failure or fall costs others most."""

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def chain(
    run: Run,
    asset: Annotated[str, typer.Option(help="The first asset.", show_default="that of the first instrument")] = "",
    calm: Annotated[str, typer.Option(help="The first part of the run, which others are held against.")] = "1d",
    trees: Annotated[
        int, typer.Option(min=0, help="How many trees of liquidations, the largest by notional first.")
    ] = TREES,
    json: Json = False,
) -> None:
    """When each stage of a cascade set in, the largest trees of liquidations that set each other off, and fear and greed by day."""
    from abm.clock import seconds
    from abm.contagion.chain import branches
    from abm.contagion.fear_and_greed import by_day, fear_and_greed
    from abm.scenario import ScenarioError
    from experiments import rundir

    try:
        seconds(calm)
    except ValueError as error:
        raise ScenarioError(f"--calm: {error}") from None
    result = rundir.read(run)
    try:
        stages = result.stages(asset or None, calm)
        names = list(result.scenario["instruments"])
        first = next(name for name in names if name.partition("-")[0] == (asset or names[0].partition("-")[0]))
        fear = by_day(fear_and_greed(result.bars, result.nodes, first, calm=calm))
    except ValueError as error:
        raise ScenarioError(f"{run}: {error}") from None
    every = branches(result.causes())
    if json:
        content = {
            "stages": plain_rows(stages),
            "liquidations": int(every["liquidations"].sum()),
            "all_trees": len(every),
            "trees": plain_rows(every.head(trees)),
        }
        typer.echo(json_format.dumps(content | {"fear_and_greed": plain_rows(fear.reset_index())}, indent=2))
        return
    print_stages(stages)
    print_trees(every, trees)
    typer.echo(f"Fear (0) and greed (100) of {first} as each day ends, 50 being the calm of this run:")
    parts = list(fear.columns[3:])
    rows = [
        (
            day["day"][:10],
            f"{day['index']:.0f}",
            f"{day['lowest']:.0f}",
            day["at"][11:16],
            *(f"{day[part]:.0f}" for part in parts),
        )
        for day in plain_rows(fear.reset_index())
    ]
    print_rows(rows, ("day", "index", "lowest", "at", *parts))


def print_stages(stages: Any) -> None:
    """Print when each stage set in."""
    rows = [
        (s["stage"], s["onset"] or "never", f"{s['worst']:.3g}", s["at"], f"{s['threshold']:.3g}")
        for s in plain_rows(stages)
    ]
    print_rows(rows, ("stage", "set in", "worst", "at", "threshold"))


def print_trees(trees: Any, most: int = TREES) -> None:
    """Print the largest trees of liquidations, and how many there are in all."""
    if trees.empty:
        typer.echo("no liquidations")
        return
    typer.echo(f"{int(trees['liquidations'].sum()):,} liquidations in {len(trees):,} trees; the largest by notional:")
    large = plain_rows(trees.head(most))
    print_rows(
        [(t["time"], t["instrument"], t["liquidations"], t["depth"], f"{t['notional']:,.0f}") for t in large],
        ("began", "in", "liquidations", "generations", "USD"),
    )


def network(
    run: Run,
    at: Annotated[
        str, typer.Option(help="Moment (UTC), such as 2026-02-05T12:00.", show_default="the last export")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="GraphML file to write.", show_default=False)] = None,
    fall: Annotated[float, typer.Option(help="Fall of each asset whose cascade is computed, fraction.")] = 0.1,
    json: Json = False,
) -> None:
    """The contagion network of a run: nodes by kind, edges by channel, and whose failure or fall would cost others most; as GraphML too."""
    from abm.contagion.graph import write_graphml
    from abm.contagion.measures import importance
    from abm.scenario import ScenarioError
    from experiments import rundir

    result = rundir.read(run)
    try:
        graph = result.graph(at or None)
        matters = importance(graph, fall)
    except ValueError as error:
        raise ScenarioError(str(error)) from None
    if out is not None:
        write_graphml(graph, out)
    nodes = Counter(data["kind"] for _, data in graph.nodes(data=True))
    edges: dict[str, list[float]] = defaultdict(list)
    for *_, data in graph.edges(data=True):
        edges[data["channel"]].append(data["weight"])
    if json:
        channels = {name: {"edges": len(weights), "weight": sum(weights)} for name, weights in edges.items()}
        exports = [time.isoformat() for time in sorted(result.nodes["time"].unique())]
        content = {"nodes": dict(nodes), "channels": channels, "exports": exports}
        typer.echo(json_format.dumps(content | {"importance": plain_rows(matters.reset_index())}, indent=2))
        return
    print_rows([(kind, f"{count:,}") for kind, count in nodes.most_common()], ("nodes", ""))
    print_rows(
        [(name, f"{len(weights):,}", f"{sum(weights):,.4g}") for name, weights in edges.items()],
        ("channel", "edges", "weight together"),
    )
    _print_importance(matters, fall)
    if out is not None:
        typer.echo(str(out))


def _print_importance(matters: Any, fall: float) -> None:
    """The holders that cost others most, by debts or by sales, and the assets whose fall fails anybody."""
    assets = matters["kind"] == "asset"
    by_sales = matters[~assets].sort_values("loss", ascending=False, kind="stable").index[:NODES]
    by_debts = matters.index[matters["debtrank"].notna()][:NODES]
    fails = assets & (matters["failures"] > 0)
    chosen = matters[matters.index.isin(by_sales.union(by_debts)) | fails]
    typer.echo(f"If each of these holders failed and sold all, or each of these assets fell by {fall:.0%}:")
    print_rows(
        [
            (
                row["node"],
                row["kind"],
                f"{row['size']:,.4g}",
                "-" if row["debtrank"] is None else f"{row['debtrank']:.4f}",
                f"{row['failures']:,}",
                f"{row['loss']:,.4g}",
            )
            for row in plain_rows(chosen.reset_index())
        ],
        ("node", "kind", "equity, or held", "DebtRank", "others fail", "others lose"),
    )
    if not fails.any():
        typer.echo(f"A fall of any one asset by {fall:.0%} fails nobody; look at larger ones with --fall.")


def plain_rows(table: Any) -> list[dict[str, Any]]:
    """Rows for JSON: times as text, what is missing as None."""
    import pandas as pd

    def value(cell: Any) -> Any:
        if isinstance(cell, pd.Timestamp):
            return f"{cell:%Y-%m-%dT%H:%MZ}"
        return None if pd.isna(cell) else cell

    return [{str(key): value(cell) for key, cell in row.items()} for row in table.to_dict("records")]
