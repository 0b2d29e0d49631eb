"""`abm sensitivity`: what a measure of a sweep depends on."""

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.wording import number
from experiments.options import Json
from experiments.tables import PICTURES, check_file, print_files, print_rows, write_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.sensitivity import Sensitivity


def sensitivity(
    sweep: Annotated[
        Path,
        typer.Argument(help="Folder of a sweep whose design is saltelli, morris, latin or sobol.", show_default=False),
    ],
    measure: Annotated[str, typer.Option(help="One of its measures.", show_default=False)],
    csv: Annotated[Path | None, typer.Option(help="Write the table of keys here.", show_default=False)] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it here (.png, .svg, .pdf).", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Say which of the varied keys a measure depends on: alone, with others, and how much of it is the noise of seeds.

    Sobol's indices of a saltelli design, mu* and sigma of one of morris, slopes of one that is latin or sobol, with intervals of 90 %.
    """
    from analysis.sensitivity import sensitivity as found_of
    from analysis.sweep import Sweep

    check_file(csv, [".csv"])
    check_file(figure, PICTURES)
    read = Sweep.read(sweep)
    found = found_of(read, measure)

    def draw() -> "Figure":
        from analysis.sensitivity_figure import sensitivity_figure

        return sensitivity_figure(found, str(read.manifest["name"]))

    write_files(csv, found.table, figure, draw)
    if json:
        typer.echo(json_format.dumps({"sweep": str(sweep), **_content(found)}, indent=2))
        return
    _show(found)
    print_files(csv, figure)


def _content(found: "Sensitivity") -> dict[str, Any]:
    content: dict[str, Any] = {
        "measure": found.measure,
        "unit": found.unit,
        "kind": found.kind,
        "points": found.points,
        "replications": found.replications,
        "lost": found.lost,
        "noise": found.noise if found.noise == found.noise else None,
        "linear": found.linear if found.linear == found.linear else None,
        "keys": found.table.to_dict("records"),
    }
    return content if found.pairs is None else content | {"pairs": found.pairs.to_dict("records")}


def _show(found: "Sensitivity") -> None:
    if found.kind == "saltelli":
        table = found.table.sort_values("total", ascending=False)
        rows = [
            (row.key, _with(row.first, row.first_error), _with(row.total, row.total_error))
            for row in table.itertuples()
        ]
        print_rows(rows, ("key", "first order", "total"), whole=True)
    elif found.kind != "morris":
        table = found.table.sort_values("slope", key=abs, ascending=False)
        rows = [
            (row.key, number(row.slope, found.unit), number(row.slope_error, found.unit)) for row in table.itertuples()
        ]
        print_rows(rows, ("key", "slope", "+-"), whole=True)
    else:
        table = found.table.sort_values("mu_star", ascending=False)
        rows = [
            (row.key, *(number(value, found.unit) for value in (row.mu_star, row.mu_star_error, row.mu, row.sigma)))
            for row in table.itertuples()
        ]
        print_rows(rows, ("key", "mu*", "+-", "mu", "sigma"), whole=True)
    if found.pairs is not None and len(found.pairs):
        typer.echo()
        strong = found.pairs.reindex(found.pairs["second"].abs().sort_values(ascending=False).index).head(5)
        rows = [(f"{row.key}, {row.other}", _with(row.second, row.second_error)) for row in strong.itertuples()]
        print_rows(rows, ("two together", "second order"), whole=True)
    typer.echo()
    unit = f" ({found.unit})" if found.unit not in ("", "1") else ""
    typer.echo(f"{found.measure}{unit}: {found.points} points, {_runs(found)}. Brackets and +- are intervals of 90 %.")
    if found.linear == found.linear:
        typer.echo(f"all slopes together: {found.linear:.0%} of the variance between points (R2, adjusted)")
    typer.echo(_noise(found))


def _with(value: float, error: float) -> str:
    return f"{value:.2f} [{value - error:.2f}, {value + error:.2f}]"


def _runs(found: "Sensitivity") -> str:
    lost = f", of which {found.lost} in all failed or have no number" if found.lost else ""
    return f"{found.replications} run{'s' * (found.replications > 1)} each{lost}"


def _noise(found: "Sensitivity") -> str:
    if found.noise != found.noise:
        return "one run a point: the noise of seeds is not known, and is in all of these"
    if found.kind == "morris":
        return f"noise of seeds: a key that changes nothing but luck has a mu* of {number(found.noise, found.unit)}"
    told = f"noise of seeds: {found.noise:.1%} of the variance"
    return f"{told}; a total index of that size is no effect" if found.kind == "saltelli" else told
