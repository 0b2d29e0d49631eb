"""The bench of sweeps: what a run of a sweep takes beside itself, and what a second worker brings, in turn."""

import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import NamedTuple

import abm
from analysis.measures import whole_run
from experiments.bench.report import Figure, Report, WrongTotals
from experiments.ensemble import Ensemble
from experiments.one_run import Limits
from experiments.sweep import played
from experiments.sweep_plan import Plan
from experiments.sweep_spec import Spec

BLOCK = 40
REACH_OVERHEAD = 0.10
REACH_WORKERS = 1.8


class Taken(NamedTuple):
    """Seconds."""

    wall: float
    processor: float


class Block(NamedTuple):
    """Seconds that some runs take, each way."""

    bare: float
    here: float
    one: float
    two: float
    bare_processor: float
    here_processor: float


def measure(runs: int, minutes: int) -> Report:
    """Time runs alone, as a sweep in this process, on one worker and on two, in turn.

    Args:
        runs: How many each way.
        minutes: Market time of each, of `first-hour`; 59 at most.

    Raises:
        WrongTotals: They do not come to the same.
    """
    report = Report(
        "A run alone is abm.run; one of a sweep is also built, measured, kept and put in the table. Medians of blocks of "
        f"{min(BLOCK, runs)} runs, in turn.",
        column="on",
    )
    report.note_load()
    with tempfile.TemporaryDirectory() as folder:
        blocks = _blocks(runs, minutes, Path(folder))
    many = min(BLOCK, runs)
    over = median(block.here / block.bare - 1.0 for block in blocks)
    times = median(block.one / block.two for block in blocks)
    beside = median(block.here / block.two for block in blocks)
    what = f"{runs} runs of {minutes} min"
    report.figures += [
        Figure("a run alone", what, median(block.bare for block in blocks) / many, "s"),
        Figure("a run of a sweep", "this process", median(block.here for block in blocks) / many, "s"),
        Figure("a run of a sweep", "one worker", median(block.one for block in blocks) / many, "s"),
        Figure("a run of a sweep", "two workers", median(block.two for block in blocks) / many, "s"),
        Figure("a sweep beside its runs", "this process", over * 100, "%", None, "< 10", over < REACH_OVERHEAD),
        Figure(
            "two workers to one", "runs a second", times, "times", None, f"{REACH_WORKERS:g}", times >= REACH_WORKERS
        ),
        Figure("two workers to this process", "runs a second", beside, "times"),
    ]
    processor = median(block.here_processor / block.bare_processor - 1.0 for block in blocks)
    report.note(f"By processor time, which others on the machine change less: {processor:.1%} beside its runs.")
    return report


def _blocks(runs: int, minutes: int, folder: Path) -> list[Block]:
    """Seconds of each way by block; what is compiled and begun once is over before."""
    blocks = []
    measure = _plan(1, minutes, 1).measure
    with (
        Ensemble(measure, store=folder / "here.sqlite") as here,
        # a worker of its own is what limits ask for
        Ensemble(measure, store=folder / "one.sqlite", limits=Limits(seconds=3600)) as one,
        Ensemble(measure, store=folder / "two.sqlite", workers=2) as two,
    ):
        for ensemble in (here, one, two):
            _swept(ensemble, 4, minutes, 10**6)
        for first in range(1, runs + 1, BLOCK):
            many = min(BLOCK, runs - first + 1)
            returns, bare = _alone(many, minutes, first)
            swept = [_swept(ensemble, many, minutes, first) for ensemble in (here, one, two)]
            if any(came != returns for came, _ in swept):
                raise WrongTotals("the runs of a sweep, here or on workers, do not come to what they come to alone")
            walls = [taken.wall for _, taken in swept]
            blocks.append(Block(bare.wall, *walls, bare.processor, swept[0][1].processor))
    return blocks


def _plan(runs: int, minutes: int, seed: int) -> Plan:
    """A sweep of one point."""
    end = {"clock.end": f"2026-02-05T00:{minutes:02}Z"}
    said = {"scenario": "first-hour", "vary": {name: [value] for name, value in end.items()}, "measures": ["return"]}
    return Plan.of("bench", Spec.model_validate({**said, "replications": runs, "seed": seed}))


def _alone(runs: int, minutes: int, seed: int) -> tuple[list[float], Taken]:
    """Returns of runs, and what they take without measuring."""
    wall = processor = 0.0
    returns = []
    for scenario in _plan(runs, minutes, seed).scenarios:
        began = perf_counter(), process_time()
        result = abm.run(scenario)
        wall, processor = wall + perf_counter() - began[0], processor + process_time() - began[1]
        returns.append(whole_run(result)["btc-spot.return"])
    return returns, Taken(wall, processor)


def _swept(ensemble: Ensemble, runs: int, minutes: int, seed: int) -> tuple[list[float], Taken]:
    """The same of a sweep, from its specification to its table."""
    began = perf_counter(), process_time()
    table = played(_plan(runs, minutes, seed), ensemble).table
    taken = Taken(perf_counter() - began[0], process_time() - began[1])
    return table["return"].tolist(), taken
