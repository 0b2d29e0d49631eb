"""`abm phase`: a measure of a sweep over two keys, and where half the runs pass a threshold."""

import json as json_format
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.wording import number
from experiments.options import Json
from experiments.tables import PICTURES, check_file, print_files, print_rows, write_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.phase import Phase


def phase(
    sweep: Annotated[Path, typer.Argument(help="Folder of a sweep over two keys.", show_default=False)],
    x: Annotated[str, typer.Option(help="Key along the map.", show_default=False)],
    y: Annotated[str, typer.Option(help="Key up the map.", show_default=False)],
    measure: Annotated[str, typer.Option(help="One of its measures.", show_default=False)],
    threshold: Annotated[
        float | None, typer.Option(help="Of the measure: which share of the runs is above it.", show_default=False)
    ] = None,
    below: Annotated[bool, typer.Option("--below", help="Which share is below it.")] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Value of another key that was varied; may be repeated."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table of cells here.", show_default=False)] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it here (.png, .svg, .pdf).", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Medians over two keys of a sweep, the share of runs that pass a threshold, and the line at which half of them do.

    Intervals are of 90 %.
    """
    from abm.scenario import ScenarioError
    from analysis.phase import phase as found_of
    from analysis.sweep import Sweep

    check_file(csv, [".csv"])
    check_file(figure, PICTURES)
    if below and threshold is None:
        raise ScenarioError("below: needs --threshold, such as --threshold -0.2")
    read = Sweep.read(sweep)
    found = found_of(read, x, y, measure, threshold, below=below, where=_where(where or ()))

    def draw() -> "Figure":
        from analysis.phase_figure import phase_figure

        return phase_figure(found, str(read.manifest["name"]))

    write_files(csv, found.cells.rename(columns={"x": found.x, "y": found.y}), figure, draw)
    if json:
        typer.echo(json_format.dumps({"sweep": str(sweep), **_content(found)}, indent=2))
        return
    _show(found)
    print_files(csv, figure)


def _where(texts: Sequence[str]) -> dict[str, str]:
    from abm.scenario import ScenarioError

    for text in texts:
        if "=" not in text:
            raise ScenarioError(f"where: {text!r} has no =; write KEY=VALUE")
    return dict(text.split("=", 1) for text in texts)


def _content(found: "Phase") -> dict[str, Any]:
    return {
        "x": found.x,
        "y": found.y,
        "measure": found.measure,
        "unit": found.unit,
        "threshold": found.threshold,
        "below": found.below,
        "cells": _records(found.cells),
        "line": None if found.line is None else _records(found.line),
    }


def _records(table: Any) -> list[dict[str, Any]]:
    """Rows for JSON, which has neither what is no number nor what is infinite."""
    rows: list[dict[str, Any]] = table.to_dict("records")
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _show(found: "Phase") -> None:
    cells = found.cells
    columns = list(dict.fromkeys(cells.sort_values("x")["x"]))
    by_place = {(row.x, row.y): row for row in cells.itertuples()}
    rows = [
        (_value(y), *(_cell(by_place.get((x, y)), found) for x in columns))
        for y in sorted(cells["y"].unique(), reverse=True)
    ]
    if found.threshold is None:
        typer.echo(f"median {found.measure}; {found.x} to the right, {found.y} up")
    else:
        edge = f"{'below' if found.below else 'above'} {number(found.threshold, found.unit)}"
        typer.echo(f"median {found.measure} and share of runs {edge}; {found.x} to the right, {found.y} up")
    print_rows(rows, ("", *map(_value, columns)), whole=True)
    if found.line is not None:
        typer.echo()
        typer.echo(f"half the runs are {edge} at {found.y} of")
        print_rows([(_value(row.x), *_critical(row)) for row in found.line.itertuples()], (found.x, "", ""), whole=True)
        typer.echo("Brackets are intervals of 90 % for the seeds, not for the steps of the grid.")
    lost = int(cells["lost"].sum())
    if lost:
        typer.echo(f"{lost} of {lost + int(cells['runs'].sum())} runs failed or have no number, and are left out")


def _cell(cell: Any, found: "Phase") -> str:
    if cell is None or cell.runs == 0:
        return "-"
    median = number(cell.median, found.unit)
    return median if found.threshold is None else f"{median}, {cell.share:.0%}"


def _critical(row: Any) -> tuple[str, str]:
    if not math.isfinite(row.critical):
        return "nowhere", "half the runs lie beyond the values that were played"
    brackets = f"[{_value(row.low)}, {_value(row.high)}]"
    return f"{_value(row.critical)} {brackets}", f"between {_value(row.between_low)} and {_value(row.between_high)}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
