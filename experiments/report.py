"""`abm report`: what a run, several runs of one scenario, or a sweep came to, as one HTML file."""

import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.tables import check_file


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...|SWEEP", help="Run folders of one scenario, or the folder of a sweep.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write.", show_default="report.html in the first folder")
    ] = None,
) -> None:
    """Tell what happened in one page to read, print or send on: story, figures, tables, and how to repeat it.

    Of runs that differ in their seed it has medians and intervals, and shows the run of median change in full. The page has no script in it and
    fetches nothing.
    """
    check_file(out, (".html",))
    place = out or folders[0] / "report.html"
    place.write_text(_page(folders), "utf-8")
    typer.echo(str(place))


def _page(folders: Sequence[Path]) -> str:
    from analysis.sweep import RUNS

    if (folders[0] / RUNS).is_file():
        return _of_sweep(folders)
    from analysis.report.sections import run_report
    from analysis.report.taken import Shown, gist, typical
    from experiments import rundir
    from experiments.compare import alike

    gists, shown = [], None
    for folder, result in zip(folders, alike(folders), strict=True):
        shown = Shown(result, _manifest(folder))
        gists.append(gist(shown))
    chosen = typical(gists)
    if chosen < len(folders) - 1:  # another one than the last is in memory
        shown = Shown(rundir.read(folders[chosen]), _manifest(folders[chosen]))
    assert shown is not None
    return run_report(shown, gists)


def _of_sweep(folders: Sequence[Path]) -> str:
    from abm.scenario import ScenarioError
    from analysis.report.sweep import sweep_report
    from analysis.sweep import Sweep

    if len(folders) > 1:
        raise ScenarioError(f"{folders[1]}: a sweep is told alone; give one folder")
    return sweep_report(Sweep.read(folders[0]))


def _manifest(folder: Path) -> dict[str, Any]:
    return dict(json_format.loads((folder / "manifest.json").read_text("utf-8")))
