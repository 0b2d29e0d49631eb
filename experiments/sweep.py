"""`abm sweep`: many runs of one scenario with other values, here or on a cluster, and one table of what they came to."""

import json as json_format
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.wording import number
from experiments.options import DryRun, Json, Scheduler, Store, Workers, announce
from experiments.tables import print_rows

if TYPE_CHECKING:
    from analysis.sweep import Sweep
    from experiments.ensemble import Ensemble
    from experiments.sweep_plan import Plan

HOME = Path("runs") / "sweeps"
KEPT = "runs.sqlite"
_SHOWN = 24  # points beyond which the table on the terminal is left out


def sweep(
    spec: Annotated[
        str, typer.Argument(help="Name in configs/sweeps, or path of a YAML file.", show_default=False)
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder for what comes out.", show_default="runs/sweeps/NAME")
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE:FUNCTION", help="A measure of your own; may be repeated.", show_default=False),
    ] = None,
    workers: Workers = 1,
    scheduler: Scheduler = "",
    store: Store = "",
    resume: Annotated[bool, typer.Option("--resume", help="Only go on with what was begun: it must be there.")] = False,
    list_measures: Annotated[bool, typer.Option("--list-measures", help="Say what can be measured.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Play a scenario at many points, each several times, and keep one table: a row a run.

    The same command goes on where it was stopped, and plays nothing twice. A run that fails is a row that says where and why.
    """
    from abm.scenario import ScenarioError
    from experiments.database import is_url
    from experiments.ensemble import Ensemble
    from experiments.sweep_plan import read_plan

    if list_measures:
        _show_measures(json)
        return
    if not spec:
        raise ScenarioError("name a sweep (configs/sweeps), or a file; abm sweep --help says more")
    _see_own(measure)
    plan = read_plan(spec, measure or ())
    place = out or HOME / plan.name
    _check(place)
    where = store or place / KEPT
    if resume and not (is_url(where) or Path(where).is_file()):
        raise ScenarioError(
            f"{where}: there is nothing to go on with; leave out --resume, or name the --out that was begun"
        )
    if dry_run:
        _announce(plan, place, where, workers)
        return
    began = datetime.now(UTC)
    with Ensemble(
        plan.measure,
        store=where,
        workers=workers,
        scheduler=scheduler,
        limits=plan.spec.limits,
        tables=plan.spec.keep,
        folder=place,
    ) as ensemble:
        found = played(plan, ensemble, silent=json or quiet, began=began)
    try:
        found.write(place)
    except OSError as error:
        raise ScenarioError(f"{place}: {error}; the runs are kept, and the same command writes this again") from None
    _report(found, place, json, quiet)


def played(plan: "Plan", ensemble: "Ensemble", silent: bool = True, began: datetime | None = None) -> "Sweep":
    """Play what is missing of a sweep.

    Args:
        plan: What is played.
        ensemble: On whom, with the measure, limits and tables of the plan.
        silent: Show no progress.
        began: When the command began; now, where it is not given.
    """
    from analysis.sweep import Sweep

    began = began or datetime.now(UTC)
    table = plan.table(ensemble.play(plan.scenarios, plan.name, silent))
    return Sweep(table, _manifest(plan, table, began))


def _manifest(plan: "Plan", table: Any, began: datetime) -> dict[str, Any]:
    from analysis.measures import REGISTRY
    from experiments.one_run import version
    from experiments.rundir import versions

    spec, keys = plan.spec, list(plan.spec.vary)
    columns = list(table.columns)
    measured = columns[columns.index(keys[-1]) + 1 : columns.index("seconds")]
    registered = {name: REGISTRY.get(name.rpartition(".")[2]) for name in measured}
    failed = table[table["error"] != ""]
    return {
        "name": plan.name,
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "own_measures": list(plan.own),
        "version": version(plan.measure, plan.scenarios[0]),
        "versions": versions(),
        "design": dict(plan.design.about),
        "keys": {name: spec.vary[name].about for name in keys},
        "measures": {
            name: {"unit": each.unit, "about": each.about}
            if each and name in spec.measures
            else {"unit": "", "about": ""}
            for name, each in registered.items()
        },
        "tables": list(spec.keep),
        "counts": {
            "points": len(plan.design.points),
            "replications": spec.replications,
            "runs": len(table),
            "failed": {str(stage): int(count) for stage, count in failed["stage"].value_counts(sort=False).items()},
        },
        "seconds_of_runs": float(table["seconds"].sum()),
        "began": began.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }


# ------------------------------------------------------------------------------------------------------------ before the work


def _see_own(measures: Sequence[str] | None) -> None:
    """Let modules beside which the command is given be found, as Python itself does."""
    import sys

    if measures and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def _check(place: Path) -> None:
    """An earlier result is replaced, anything else stays."""
    from analysis.sweep import FAILURES, MANIFEST, RUNS, TABLES
    from experiments import rundir

    there = {path.name for path in place.iterdir()} if place.is_dir() else set()
    ours = {name for name in there if name.startswith(KEPT) or name.endswith(".partial")}
    if not there or there - ours - {FAILURES, MANIFEST, RUNS, TABLES, "report.html"}:
        rundir.check(place)


def _announce(plan: "Plan", place: Path, store: Path | str, workers: int) -> None:
    spec = plan.spec
    counts = f"{len(plan.design.points)} points ({spec.design.kind}), {spec.replications} replications"
    broken = sum(run.failed is not None for run in plan.runs)
    more = f", {broken} runs cannot be built" if broken else ""
    announce(plan.scenarios, plan.measure, store, workers, f"{plan.name}: {counts}{more}", spec.keep, place)


def _show_measures(json: bool) -> None:
    from analysis.measures import REGISTRY

    if json:
        typer.echo(
            json_format.dumps({name: {"unit": each.unit, "about": each.about} for name, each in REGISTRY.items()})
        )
        return
    print_rows(
        [(name, each.unit, _of(each), each.about) for name, each in REGISTRY.items()], ("measure", "unit", "of", "")
    )
    typer.echo("Unit 1: a fraction. <instrument>.<measure> is of another instrument than the first.")
    typer.echo("A measure of your own: --measure module:function, of an abm.Result, giving numbers by name.")


def _of(measure: Any) -> str:
    return "each, or all together" if measure.each and measure.together else "each" if measure.each else "all together"


# -------------------------------------------------------------------------------------------------------------- the report


def _report(found: "Sweep", place: Path, json: bool, quiet: bool) -> None:
    from abm.scenario import ScenarioError

    failed, runs = found.failures, len(found.table)
    if json:
        typer.echo(json_format.dumps({"folder": str(place), **found.manifest}, indent=2))
    elif not quiet:
        _show(found)
        typer.echo(f"{place}: {runs} runs of {found.manifest['counts']['points']} points")
    if len(failed) == runs:
        raise ScenarioError(f"no run went well; the first: {_told(failed.iloc[0])}")
    if len(failed):
        typer.echo(f"{len(failed)} of {runs} runs failed (failures.csv), the first: {_told(failed.iloc[0])}", err=True)


def _told(row: Mapping[str, Any]) -> str:
    return f"{row['stage']}: {row['error']}"


def _show(found: "Sweep") -> None:
    """The medians, where a terminal has room for them."""
    points = found.points()
    if found.manifest["counts"]["points"] > _SHOWN:
        return
    rows = []
    for point, mine in points.groupby("point", sort=True):
        first, by_name = mine.iloc[0], mine.set_index("measure")
        values = [_value(first[key]) for key in found.keys]
        medians = [number(by_name.loc[name, "median"], _unit(found, name)) for name in found.measures]
        rows.append((point, *values, f"{by_name['runs'].max()}", *medians))
    units = [
        f"{name}{f' ({unit})' if (unit := _unit(found, name)) not in ('1', '') else ''}" for name in found.measures
    ]
    print_rows(rows, ("point", *found.keys, "runs", *units), whole=True)
    typer.echo("Medians over the replications.")


def _unit(found: "Sweep", name: str) -> str:
    return str(found.manifest["measures"][name]["unit"])


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
