"""`abm stylised`: the stylised facts of a run or of candles, beside those of real data and the bands they should lie in."""

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.wording import fact_cells

if TYPE_CHECKING:
    import pandas as pd

    from analysis.samples import Sample

FACTS, FIGURE = "facts.csv", "figure.png"
WIDTH = 120
"""Columns that the table needs; a narrower terminal breaks its lines."""


def stylised(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|CANDLES", help="Run folder, or a file of candles (CSV, Parquet).", show_default=False
        ),
    ],
    instrument: Annotated[
        str,
        typer.Option(help="Instrument of a run, or column of closes of a file.", show_default="the first, or close"),
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder for table and figure.", show_default="runs/stylised/NAME")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Measure the stylised facts of a run or of candles, and hold them against real data.

    Exit status: 0 whatever lies outside its band, 2 the command cannot be run so.
    """
    from analysis.samples import key
    from analysis.stylised import reference_curves, stylised_curves, stylised_facts
    from analysis.stylised_figure import stylised_figure

    place = out if out is not None else Path("runs") / "stylised" / source.name.split(".")[0]
    _check(place)
    measured = _read(source, instrument)
    interval = key(measured.interval)
    facts = stylised_facts(measured)
    figure = stylised_figure(stylised_curves(measured), reference_curves(measured.interval), measured.name, interval)
    place.mkdir(parents=True, exist_ok=True)
    facts.to_csv(place / FACTS, index=False)
    figure.savefig(place / FIGURE, dpi=150)
    if json:
        content = {"sample": measured.name, "interval": interval, "returns": len(measured.moves), "folder": str(place)}
        typer.echo(json_format.dumps(content | {"facts": [_plain(row) for row in facts.to_dict("records")]}, indent=2))
        return
    typer.echo(f"{measured.name}: {len(measured.moves):,} returns of {interval}, {len(measured.orders):,} taker orders")
    _show(facts)
    typer.echo(f"{place / FIGURE}, {FACTS}")


def _check(place: Path) -> None:
    """Find out first whether results can be kept there: an earlier result is replaced, anything else stays."""
    from experiments import rundir

    if not (place / FACTS).is_file():
        rundir.check(place)


def _read(source: Path, instrument: str) -> "Sample":
    from analysis.samples import read_candles, run_sample, sample
    from experiments import rundir

    if not source.is_dir():
        return sample(read_candles(source, instrument), name=f"{source.name} {instrument}".strip())
    return run_sample(rundir.read(source), instrument)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row for JSON: what is not a finite number is None."""
    import pandas as pd

    return {key: None if pd.isna(value) else value for key, value in row.items()}


def _show(facts: "pd.DataFrame") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = [fact_cells(row) for row in facts.to_dict("records")]
    for title in rows[0]:
        table.add_column(title, justify="right" if title in ("value", "real") else "left", no_wrap=True)
    before = ""
    for cells in rows:
        table.add_row(*map(Text, (cells | {"fact": "" if cells["fact"] == before else cells["fact"]}).values()))
        before = cells["fact"]
    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    console.print(table)
    for note, rows in facts[facts["note"] != ""].groupby("note", sort=False):
        typer.echo(f"no {', '.join(rows['statistic'])}: {note}")
