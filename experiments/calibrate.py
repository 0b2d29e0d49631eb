"""`abm calibrate`: choose parameters of a scenario so that runs come near what is to be fitted, and say how well that pins them down."""

import copy
import json as json_format
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.tables import print_whole

if TYPE_CHECKING:
    from analysis.compare import Row
    from experiments.calibrate_spec import Problem
    from experiments.calibrate_study import Curvature, Played
    from experiments.ensemble import Ensemble, Outcome

HOME = Path("runs") / "calibrations"
BEST, TRIALS, PROFILES, RESULT = "best.yaml", "trials.csv", "profiles.png", "result.json"


def calibrate(
    spec: Annotated[
        str, typer.Argument(help="Name in configs/calibrations, or path of a YAML file.", show_default=False)
    ],
    workers: Annotated[int, typer.Option(help="Processes that play runs; 1: this one.")] = 1,
    scheduler: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Play on the workers of this dask scheduler.", show_default=False)
    ] = "",
    store: Annotated[
        str,
        typer.Option(
            metavar="PATH|URL",
            help="State of the search: a file, or a database that several commands may share (postgresql://...).",
            show_default="runs/calibrations/NAME.sqlite",
        ),
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder for what comes out.", show_default="runs/calibrations/NAME")
    ] = None,
    curvature: Annotated[
        bool, typer.Option(help="Play what identifiability needs: two more trials for each parameter.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Fit a scenario's parameters to the observations that may be fitted, and say which of them that determines.

    The same command goes on where it was stopped. What is marked predicted is not looked at.
    """
    from abm.scenario import ScenarioError
    from experiments.calibrate_spec import read_spec
    from experiments.calibrate_study import MEASURE, Search
    from experiments.calibrate_study import curvature as measure_curvature
    from experiments.database import is_url, shown
    from experiments.ensemble import Ensemble

    problem = read_spec(spec)
    place = out or HOME / problem.name
    _check(place)
    where = store or str(HOME / f"{problem.name}.sqlite")
    runs = where if is_url(where) else Path(where).with_suffix(".runs.sqlite")
    at_once = problem.spec.batch if scheduler else -(-workers // len(problem.spec.seeds))
    silent = json or quiet
    try:
        with Ensemble(MEASURE, store=runs, workers=workers, scheduler=scheduler) as ensemble:
            search = Search(problem, where)
            try:
                trials = search.run(ensemble, silent, at_once)
                best = min(trials, key=lambda trial: trial.loss)
                with search.alone("" if silent else "another command measures the curvature; waiting for it"):
                    around = None if best.error or not curvature else measure_curvature(problem, best, ensemble, silent)
                    rows = problem.rows([run.measures for run in _again(problem, best, ensemble)])
            finally:
                search.close()
    except KeyboardInterrupt as stop:
        if stop.args:
            raise
        raise KeyboardInterrupt(
            f"what was played is kept in {shown(runs)}; the same command goes on from there"
        ) from None
    found = Found(problem, trials, best, rows, around)
    try:
        _keep(found, place)
    except OSError as error:
        raise ScenarioError(f"{place}: {error}; the trials are kept, and the same command writes this again") from None
    if json:
        typer.echo(json_format.dumps({**found.to_dict(), "store": shown(where), "folder": str(place)}, indent=2))
    elif not quiet:
        _show(found, place)


def _again(problem: "Problem", best: "Played", ensemble: "Ensemble") -> "list[Outcome]":
    """The runs of the best trial, which the store has."""
    return ensemble.play([problem.scenario(best.values, seed) for seed in problem.spec.seeds], silent=True)


def _check(place: Path) -> None:
    """An earlier result is replaced, anything else stays."""
    from experiments import rundir

    there = {path.name for path in place.iterdir()} if place.is_dir() else set()
    if not there or there - {BEST, TRIALS, PROFILES, RESULT}:
        rundir.check(place)


@dataclass(frozen=True)
class Found:
    """What a calibration came to."""

    problem: "Problem"
    trials: "Sequence[Played]"
    best: "Played"
    rows: "list[Row]"
    around: "Curvature | None"

    @property
    def first(self) -> float | None:
        """Loss of the scenario as it stands, if that was the first trial."""
        return self.trials[0].loss if dict(self.trials[0].values) == dict(self.problem.present) else None

    def parameters(self) -> list[dict[str, Any]]:
        """One row for each parameter."""
        rows = []
        for position, parameter in enumerate(self.problem.parameters):
            value = self.best.values[parameter.name]
            row: dict[str, Any] = {
                "parameter": parameter.name,
                "about": self.problem.spec.vary[parameter.name].about,
                "before": self.problem.present.get(parameter.name),
                "best": value,
                "low": parameter.low,
                "high": parameter.high,
            }
            if self.around is not None:
                precision, share = self.around.precisions[position], parameter.share(value)
                ends = [parameter.value(min(max(share + side * precision.error, 0.0), 1.0)) for side in (-1, 1)]
                row |= {"interval": ends, "told": precision.told, "identified": precision.identified}
            rows.append(row)
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        directions = [] if self.around is None else self.around.directions
        return {
            "calibration": self.problem.name,
            "scenario": self.problem.base.name,
            "ends": self.problem.base.clock.end.isoformat(),
            "seeds": list(self.problem.spec.seeds),
            "trials": len(self.trials),
            "failed": sum(bool(trial.error) for trial in self.trials),
            "loss": {"before": self.first, "best": self.best.loss, "trial": self.best.number},
            "targets": [row.to_dict() for row in self.rows],
            "parameters": self.parameters(),
            "not_determined": [{"weights": dict(each.weights), "told": each.told} for each in directions],
        }


# ------------------------------------------------------------------------------------------------------------ what stays


def _keep(found: Found, place: Path) -> None:
    import pandas as pd
    import yaml

    from abm.record import write_json
    from analysis.calibration_figure import profiles_figure

    place.mkdir(parents=True, exist_ok=True)
    (place / BEST).write_text(yaml.safe_dump(_scenario(found, place), sort_keys=False, allow_unicode=True), "utf-8")
    rows = [
        {"trial": trial.number, "loss": trial.loss, **trial.values, **trial.moments, "error": trial.error}
        for trial in found.trials
    ]
    pd.DataFrame(rows).to_csv(place / TRIALS, index=False)
    around = found.around
    profiles_figure(
        f"{found.problem.name}: {len(found.trials)} trials",
        found.problem.parameters,
        [(trial.values, trial.loss) for trial in found.trials if not trial.error],
        (found.best.values, found.best.loss),
        around.precisions if around else [],
        around.profiles if around else {},
    ).savefig(place / PROFILES, dpi=150)
    write_json(place / RESULT, found.to_dict())


def _scenario(found: Found, place: Path) -> dict[str, Any]:
    """The scenario with the best values, uncut, which says what was fitted to what."""
    problem, best = found.problem, found.best
    source = problem.source
    overlay = problem.overlay(best.values)
    content: dict[str, Any] = {
        "based_on": os.path.relpath(source, place) if Path(source).is_file() else source,
        "name": f"{problem.base.name}-fitted",
        "description": f"{problem.base.name} with what calibration {problem.name} found, trial {best.number}",
    }
    for key, value in (problem.spec.set | overlay).items():
        here = content
        *way, last = key.split(".")
        for part in way:
            here = here.setdefault(part, {})
        here[last] = copy.deepcopy(value)
    to = f"{', '.join(target.observation for target in problem.targets)} (calibration {problem.name}, trial {best.number})"
    return content | {"fitted": dict.fromkeys(overlay, to)}


def _show(found: Found, place: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from experiments.compare import show_rows

    problem, console = found.problem, Console(highlight=False)
    show_rows(console, found.rows, len(problem.spec.seeds))
    typer.echo()
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for title in ("parameter", "before", "best", "range", "one standard error", "told", ""):
        table.add_column(title, justify="left" if title in ("parameter", "") else "right", no_wrap=True)
    for row in found.parameters():
        table.add_row(*_cells(row))
    print_whole(console, table)
    around = found.around
    for direction in around.directions if around else []:
        typer.echo(f"not determined: {_direction(direction.weights)} (told {direction.told:.0%})")
    if around and len(problem.spec.seeds) == 1:
        typer.echo("one seed: the noise of runs is not known, and is taken as none")
    before = "" if found.first is None else f", of the scenario as it stands {found.first:.4g}"
    failed = sum(bool(trial.error) for trial in found.trials)
    typer.echo(
        f"loss {found.best.loss:.4g} (trial {found.best.number}){before}; {len(found.trials)} trials"
        + (f", {failed} failed, the first: {next(t.error for t in found.trials if t.error)}" if failed else "")
    )
    typer.echo(f"{place / BEST}, {TRIALS}, {PROFILES}, {RESULT}")


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    range_ = f"{row['low']:.6g}..{row['high']:.6g}"
    before = "-" if row["before"] is None else f"{row['before']:.6g}"
    cells = (row["parameter"], before, f"{row['best']:.6g}", range_)
    if "told" not in row:
        return (*cells, "", "", "")
    interval = "..".join(f"{end:.6g}" for end in row["interval"])
    return (*cells, interval, f"{row['told']:.0%}", "identified" if row["identified"] else "not identified")


def _direction(weights: Mapping[str, float]) -> str:
    """`+0.71 a -0.71 b`, the heaviest first, without what is nothing."""
    large = sorted(
        ((abs(weight), weight, name) for name, weight in weights.items() if abs(weight) >= 0.1), reverse=True
    )
    return " ".join(f"{weight:+.2f} {name}" for _, weight, name in large)
