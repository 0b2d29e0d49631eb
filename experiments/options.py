"""Options that commands of many runs share, and what such a command says before it begins."""

import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.wording import number

if TYPE_CHECKING:
    from abm.scenario import Scenario

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change a value (abm schema); may be repeated."),
]
Store = Annotated[
    str,
    typer.Option(
        metavar="PATH|URL",
        help="What keeps what runs came to: a file, or a database (postgresql://...).",
        show_default="below runs/, by the scenario",
    ),
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that play.")]
Scheduler = Annotated[
    str, typer.Option(help="Dask scheduler whose workers play instead (tcp://...).", show_default=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many runs it takes, and how long.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]

_TRIED = 5.0  # seconds for which a run is tried to see how long one takes
_ROW = 2500  # bytes of an outcome in a store, about


def changed(scenario: str, set_: Sequence[str] | None, *more: Mapping[str, Any]) -> "Scenario":
    """A scenario with what `--set` changes, and more mappings laid over that."""
    from abm.scenario import assignment, load_with

    return load_with(scenario, [*(assignment(text) for text in set_ or []), *more])


def moment(text: str, option: str) -> datetime:
    """A moment in UTC that an option gives.

    Raises:
        ScenarioError: It is none.
    """
    from pydantic import TypeAdapter, ValidationError

    from abm.clock import Utc
    from abm.scenario import ScenarioError

    try:
        return TypeAdapter(Utc).validate_python(text)
    except ValidationError:
        raise ScenarioError(f"{option}: {text!r} is not a moment; write one such as 2026-02-05T12:00") from None


def seeds_of(text: str) -> list[int]:
    """Seeds written `1,2` or `1-5`, each once.

    Raises:
        ScenarioError: It is neither.
    """
    from abm.scenario import ScenarioError

    seeds: dict[int, None] = {}
    for part in filter(None, text.split(",")):
        written = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if written is None or int(written[1]) > int(written[2] or written[1]):
            raise ScenarioError(f"seeds: {part!r} is neither a seed nor a range; write 1,2 or 1-5")
        seeds |= dict.fromkeys(range(int(written[1]), int(written[2] or written[1]) + 1))
    return list(seeds)


def announce(
    runs: Sequence["Scenario"],
    measure: str,
    store: Path | str,
    workers: int,
    what: str,
    tables: Sequence[str] = (),
    folder: Path | None = None,
) -> None:
    """Say how many runs there are to play, and how long that takes: after those that are kept, else the first is tried for some seconds.

    Args:
        runs: All of them.
        measure: Of the ensemble.
        store: Where it keeps them.
        workers: How many play at once.
        what: What the runs are.
        tables: What is kept of each run beside its outcome.
        folder: Where.
    """
    from experiments.database import is_url, shown
    from experiments.ensemble import Ensemble

    there = is_url(store) or Path(store).exists()
    with Ensemble(measure, store=store if there else None, tables=tables, folder=folder) as ensemble:
        missing, kept = ensemble.missing(runs), ensemble.kept(runs)
    different = len({run.hash for run in runs})
    typer.echo(f"{what}: {different} runs, {different - len(missing)} of them in {shown(store)}")
    if not missing:
        return
    if kept:
        each = median(outcome.seconds for outcome in kept)
        size = sum(_sizes(folder, tables, outcome.scenario) for outcome in kept) / len(kept)
    else:
        each, size = _tried(missing[0], tables)
    left = len(missing) * each / workers
    typer.echo(f"{_written(each)} a run, so about {_written(left)} for {len(missing)} runs with --workers {workers}")
    disk = len(missing) * (_ROW + size)
    typer.echo(f"disk: about {number(disk, 'bytes').strip()}B" if disk >= 1e6 else "disk: less than 1 MB")


def _sizes(folder: Path | None, tables: Sequence[str], scenario: str) -> int:
    """Bytes of the tables that a run has left."""
    from analysis.sweep import table_file

    return sum(table_file(folder or Path(), table, scenario).stat().st_size for table in tables)


def _tried(scenario: "Scenario", tables: Sequence[str]) -> tuple[float, float]:
    """About how many seconds a run takes, after what is compiled once, and how many bytes its tables."""
    import abm
    from experiments.one_run import parquet

    market = abm.Market(scenario)
    steps = market.scenario.clock.steps
    market.run_for(min(2, steps))
    began, before = time.perf_counter(), market.steps_done
    while market.steps_done < steps and time.perf_counter() - began < _TRIED:
        market.run_for(min(20, steps - market.steps_done))
    seconds = (time.perf_counter() - began) * steps / max(market.steps_done - before, 1)
    if not tables:
        return seconds, 0.0
    result = market.result()
    return seconds, sum(len(parquet(result, table)) for table in tables) * steps / market.steps_done


def _written(seconds: float) -> str:
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"
