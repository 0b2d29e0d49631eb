"""`abm attribute`: what moved a price, from the folder of a run."""

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.chain import Json, Run, plain_rows, print_stages, print_trees
from experiments.tables import PICTURES, check_file, print_rows

if TYPE_CHECKING:
    import pandas as pd

    from abm.record import Result
    from analysis.attribution import Attribution

NAMED = 4
"""Parts that are named in the row of an hour."""


def attribute(
    run: Run,
    instrument: Annotated[str, typer.Option(help="Whose price.", show_default="the first instrument")] = "",
    start: Annotated[
        str, typer.Option("--from", help="Whole hour (UTC) to begin with.", show_default="the start of the run")
    ] = "",
    end: Annotated[
        str, typer.Option("--to", help="Whole hour (UTC) to end with.", show_default="the end of the run")
    ] = "",
    figure: Annotated[Path | None, typer.Option(help="Draw it here (.png, .svg, .pdf).", show_default=False)] = None,
    json: Json = False,
) -> None:
    """What moved the price: the way of the mid as a sum over kinds of traders and reasons, trades and quotes apart, in all and by hour.

    With it the order of the stages and the largest trees of liquidations; `abm chain` says more of them.
    """
    from abm.contagion.chain import branches
    from abm.scenario import ScenarioError
    from analysis.attribution import attribution
    from experiments import rundir

    check_file(figure, PICTURES)
    result = rundir.read(run)
    chosen = instrument or next(iter(result.summary["instruments"]))
    try:
        found = attribution(result, chosen, start or None, end or None)
    except ValueError as error:
        raise ScenarioError(str(error)) from None
    stages = _stages(result)
    trees = branches(result.causes())
    if figure is not None:
        from analysis.figures import moves_by_hour

        moves_by_hour(result, found).savefig(figure, dpi=150)
    if json:
        content = {
            "instrument": chosen,
            "from": found.start.isoformat(),
            "to": found.end.isoformat(),
            "first": found.first,
            "last": found.last,
            "residual": round(found.residual, 9),
            "parts": plain_rows(found.parts),
            "hours": plain_rows(found.hours),
            "stages": [] if isinstance(stages, str) else plain_rows(stages),
            "trees": plain_rows(trees),
        }
        typer.echo(json_format.dumps(content, indent=2))
        return
    _show(found)
    if isinstance(stages, str):
        typer.echo(f"no stages: {stages}")
    else:
        print_stages(stages)
    print_trees(trees)
    if figure is not None:
        typer.echo(str(figure))


def _stages(result: "Result") -> "pd.DataFrame | str":
    """The stages of a run, or why there are none: short runs have no calm to hold them against."""
    try:
        return result.stages()
    except ValueError as error:
        return str(error)


def _show(found: "Attribution") -> None:
    way = found.last - found.first
    when = f"{found.start:%Y-%m-%dT%H:%M} to {found.end:%Y-%m-%dT%H:%M}"
    moved = f"{found.first:,.2f} -> {found.last:,.2f} ({way:+,.2f}, {way / found.first:+.2%})"
    typer.echo(f"{found.instrument}, {when}: {moved}")
    rows: list[tuple[Any, ...]] = [
        (part.kind, part.reason, *(f"{value:+,.2f}" for value in (part.trades, part.quotes, part.change)))
        for part in found.parts.itertuples()
    ]
    sums = [f"{found.hours[column].sum():+,.2f}" for column in ("trades", "quotes", "change")]
    rows += [("all", "", *sums), ("residual", "", "", "", f"{found.residual:+,.2f}")]
    print_rows(rows, ("moved by", "reason", "by trades", "by quotes", "together"))
    typer.echo()
    hours = []
    for time, mine in found.by("time", "kind", "reason").groupby("time"):
        largest = mine.sort_values("change", key=abs, ascending=False).head(NAMED)
        named = ", ".join(f"{part.kind} {part.reason} {part.change:+,.0f}" for part in largest.itertuples())
        hours.append((f"{time:%m-%dT%H:%M}", f"{mine['change'].sum():+,.2f}", named))
    print_rows(hours, ("hour", "moved", "most of it by"))
    typer.echo()
