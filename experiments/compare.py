"""`abm compare`: runs of one scenario beside what was observed, and the table of it that `abm run` prints too."""

import json as json_format
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.wording import UNDECIDED_TEXT, comparison_cells, strayed_text
from experiments.tables import PICTURES, check_file, print_whole

if TYPE_CHECKING:
    from rich.console import Console

    from abm.record import Result
    from analysis.compare import Row


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders of one scenario.", show_default=False)
    ],
    csv: Annotated[Path | None, typer.Option(help="Write the table here.", show_default=False)] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it here (.png, .svg, .pdf).", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Hold runs that differ in their seed against what was observed: the median over them, and where nine of ten of them lie.

    Exit status: 0 whatever lies outside its bounds, 2 the command cannot be run so.
    """
    import pandas as pd
    from rich.console import Console

    from analysis.compare import compare_measured

    check_file(csv, [".csv"])
    check_file(figure, PICTURES)
    scenario, values, far = _measured(runs)
    every = compare_measured(scenario, values)
    rows = [row for row in every if row.runs]
    if csv is not None:
        pd.DataFrame([row.to_dict() for row in rows]).to_csv(csv, index=False)
    if figure is not None:
        from analysis.compare_figure import comparison_figure

        comparison_figure(rows, f"{scenario['name']}, {_runs(len(runs))}").savefig(figure, dpi=150)
    left = {"not covered": [row.observation for row in every if not row.runs]} | _not_measured(scenario)
    if json:
        content = {"scenario": scenario["name"], "runs": [str(run) for run in runs], "strayed": far}
        typer.echo(
            json_format.dumps(content | {"comparison": [row.to_dict() for row in rows], "left_out": left}, indent=2)
        )
        return
    console = Console(highlight=False)
    show_rows(console, rows, len(runs))
    console.print()
    counted = [row for row in rows if row.inside is not None and row.role != "input"]
    typer.echo(
        f"{sum(bool(row.inside) for row in counted)} of {len(counted)} observations fitted or predicted lie inside their bounds"
    )
    if any(row.decided is False for row in counted):
        known = [row.inside for row in counted if row.decided]
        console.print(
            f"Known well enough: {sum(map(bool, known))} inside, {known.count(False)} outside. {UNDECIDED_TEXT}",
            soft_wrap=True,
        )
    for run, widest in far.items():
        console.print(f"[bold]{run}: {strayed_text(widest)}[/]", soft_wrap=True)
    for why, names in left.items():
        if names:
            console.print(f"{why}: {', '.join(names)}", soft_wrap=True)
    for path in (csv, figure):
        if path is not None:
            typer.echo(str(path))


def _runs(count: int) -> str:
    return f"{count} runs" if count > 1 else "one run"


def _measured(
    folders: Sequence[Path],
) -> tuple[Mapping[str, Any], list[dict[str, float]], dict[str, dict[str, float]]]:
    """The scenario of runs, what is measured of each, and by folder which instruments have left their index; one run is in memory at a time."""
    from abm.scenario import ScenarioError
    from analysis.compare import measured, premiums, strayed

    scenario: Mapping[str, Any] = {}
    values: list[dict[str, float]] = []
    far: dict[str, dict[str, float]] = {}
    for folder, result in zip(folders, alike(folders), strict=True):
        scenario = scenario or result.scenario
        values.append(measured(result))
        if left := strayed(premiums(result)):
            far[str(folder)] = left
    if not scenario["observations"]:
        raise ScenarioError(f"{folders[0]}: scenario {scenario['name']} names no observations to be held against")
    return scenario, values, far


def alike(folders: Sequence[Path]) -> Iterator["Result"]:
    """The runs in folders, one after the other, of one scenario and each with a seed of its own.

    Raises:
        ScenarioError: They are not so, or one cannot be read.
    """
    from abm.scenario import ScenarioError
    from experiments import rundir

    first: Mapping[str, Any] = {}
    seeds: dict[int, Path] = {}
    for folder in folders:
        result = rundir.read(folder)
        first = first or result.scenario
        _alike(first, folders[0], result.scenario, folder)
        seed = result.summary["seed"]
        if seed in seeds:
            raise ScenarioError(f"{folder}: has the seed of {seeds[seed]}, {seed}; give each seed once")
        seeds[seed] = folder
        yield result


def _alike(first: Mapping[str, Any], where: Path, other: Mapping[str, Any], folder: Path) -> None:
    """Refuse runs of another scenario, and say what differs."""
    from abm.scenario import ScenarioError

    def flat(value: Any, path: str = "") -> dict[str, Any]:
        if not isinstance(value, Mapping) or not value:
            return {path: value}
        return {
            key: leaf for name, part in value.items() for key, leaf in flat(part, f"{path}.{name}".strip(".")).items()
        }

    mine, its = flat(first), flat(other)
    for key in [*mine, *its]:
        if key not in ("seed", "description", "caveat") and mine.get(key) != its.get(key):
            raise ScenarioError(
                f"{folder}: is of another scenario than {where}: {key} is {its.get(key)!r} and not {mine.get(key)!r}"
            )


def _not_measured(scenario: Mapping[str, Any]) -> dict[str, list[str]]:
    """Observations without a measure: what was put in, and what runs say nothing of."""
    from analysis.compare import read_observations

    table = read_observations(scenario["observations"])
    rest = table[table["measure"].isna()]
    put_in = rest["role"] == "input"
    return {"put in, not measured": list(rest.index[put_in]), "not measured": list(rest.index[~put_in])}


# ------------------------------------------------------------------------------------------------------------- the table


def show_rows(console: "Console", rows: Sequence["Row"], runs: int = 1) -> None:
    """Print a comparison, and the notes of its rows below it. Of several runs the median, and the interval of nine tenths of them."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for title in comparison_cells(rows[0], runs) if rows else ():
        table.add_column(title, justify="left" if title in ("observation", "role", "") else "right", no_wrap=True)
    notes: list[str] = []
    for row in rows:
        if row.note and row.note not in notes:
            notes.append(row.note)
        first, *rest = comparison_cells(row, runs).values()
        table.add_row(first + (f" ({notes.index(row.note) + 1})" if row.note else ""), *rest)
    print_whole(console, table)
    for place, note in enumerate(notes, 1):
        console.print(f"({place}) {note}", soft_wrap=True)
