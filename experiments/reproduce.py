"""`abm reproduce`: what a published paper found, found again by this product's own engines, and the table that says how near."""

import json as json_format
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from experiments.papers import Measured, Paper, Parameters
    from experiments.papers.judgement import Row

FIGURE, RESULT = "figure.png", "result.json"


def reproduce(
    name: Annotated[str, typer.Argument(help="Name of a paper (--list), or all.", show_default=False)] = "",
    list_: Annotated[bool, typer.Option("--list", help="The papers; with a name, its parameters.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer replications, tolerances wider by the standard error.")
    ] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a parameter; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for table and figure; with all, one in it for each.", show_default="runs/reproduce/NAME"
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Run a paper's model on the product's own engines, and hold what comes out against the paper's values.

    Exit status: 0 all that is gated agrees, 1 something does not, 2 the command cannot be run so.
    """
    from abm.scenario import ScenarioError  # loads pydantic: only when asked for
    from experiments.papers import find, papers

    if list_ or not name:
        _list(name, json)
        return
    if name == "all" and set_:
        raise ScenarioError("--set: parameters are those of one paper; name it")
    chosen = list(papers().values()) if name == "all" else [find(name)]
    home = out if out is not None else Path("runs") / "reproduce"
    work = [
        (paper, paper.configured(set_ or [], quick), home if out is not None and name != "all" else home / paper.name)
        for paper in chosen
    ]
    for _, _, place in work:
        _check(place)
    results = [_play(paper, config, place, quick, silent=json) for paper, config, place in work]
    if json:
        typer.echo(json_format.dumps(results if name == "all" else results[0], indent=2))
    failed = [result for result in results if not result["passed"]]
    for result in failed:
        wrong = [row["quantity"] for row in result["rows"] if row["hard"] and row["passed"] is False]
        typer.echo(f"{result['paper']}: not reproduced: {'; '.join(wrong)}", err=True)
    if failed:
        raise typer.Exit(1)


def _list(name: str, json: bool) -> None:
    from experiments.papers import find, papers

    if name and name != "all":
        rows: list[dict[str, str]] = [
            {"key": key, "default": default, "meaning": meaning} for key, default, meaning in find(name).parameters()
        ]
    else:
        rows = [{"paper": paper.name, "what": paper.title} for paper in papers().values()]
    if json:
        typer.echo(json_format.dumps(rows, indent=2))
    else:
        _print(list(rows[0]), [list(row.values()) for row in rows])


def _check(place: Path) -> None:
    """Find out before a long run whether its results can be kept there: an earlier result is replaced, anything else stays."""
    from experiments import rundir

    if not (place / RESULT).is_file():
        rundir.check(place)


def _play(paper: "Paper", config: "Parameters", place: Path, quick: bool, silent: bool) -> dict[str, Any]:
    """Measure, judge, show and keep one paper; gives what is kept."""
    from abm.record import write_json
    from experiments.papers.judgement import judge

    started = time.perf_counter()
    measured = _measured(paper, config)
    rows = judge(paper, config, measured, quick)
    seconds = time.perf_counter() - started
    result: dict[str, Any] = {
        "paper": paper.name,
        "title": paper.title,
        "parameters": config.model_dump(mode="json"),
        "quick": quick,
        "passed": not any(row.hard and row.passed is False for row in rows),
        "seconds": round(seconds, 1),
        "rows": [row.to_dict() for row in rows],
    }
    figure = paper.figure.draw(config, measured)
    place.mkdir(parents=True, exist_ok=True)
    figure.savefig(place / FIGURE, dpi=150)
    write_json(place / RESULT, result)
    if not silent:
        _show(paper, rows)
        typer.echo(f"{place / FIGURE}, {RESULT}   ({config.runs:,} runs, seed {config.seed}, {seconds:.1f} s)")
    return result


def _measured(paper: "Paper", config: "Parameters") -> "Measured":
    """What the model comes to, with a bar on a terminal while it works."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(paper.name, total=None)
        measured: Measured = paper.model.measure(config, lambda done, of: bar.update(task, completed=done, total=of))
    return measured


def _show(paper: "Paper", rows: "list[Row]") -> None:
    typer.echo(f"{paper.name}: {paper.title}")
    _print(
        ["quantity", "reference", "measured", "tolerance", "pass"],
        [
            [row.quantity, _number(row.reference), _number(row.measured), _number(row.tolerance, 2), _verdict(row)]
            for row in rows
        ],
        numbers=("reference", "measured", "tolerance"),
    )


def _number(value: float | None, digits: int = 7) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def _verdict(row: "Row") -> str:
    if row.passed is None:
        return "reported"
    return ("yes" if row.passed else "NO") + ("" if row.hard else " (soft)")


def _print(titles: list[str], rows: list[list[str]], numbers: tuple[str, ...] = ()) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, justify="right" if title in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)
