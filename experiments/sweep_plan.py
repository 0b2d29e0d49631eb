"""What a sweep plays: its points as scenarios with their seeds, and the table that their outcomes make."""

import hashlib
import json
import math
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import pandas as pd

from abm.scenario import Scenario, ScenarioError, nested, reader, value_at
from analysis.measures import REGISTRY, chosen, functions
from analysis.sweep import FIXED
from experiments import specs
from experiments.store import Outcome
from experiments.sweep_design import Designed, Point, designed
from experiments.sweep_spec import Axis, Spec


class Run(NamedTuple):
    """A run of a sweep: its scenario, or why there is none."""

    point: int
    replication: int
    seed: int
    scenario: Scenario | None
    failed: Outcome | None


@dataclass(frozen=True)
class Plan:
    """A sweep that fits its scenarios."""

    name: str
    spec: Spec
    own: tuple[str, ...]
    """Measures beside those that are registered: `module:function`."""
    design: Designed
    runs: Sequence[Run]
    """By point and replication."""

    @classmethod
    def of(cls, name: str, spec: Spec, folder: Path = Path(), own: Sequence[str] = ()) -> Self:
        """Check a specification against its scenarios, and build them.

        Args:
            name: Of the sweep.
            spec: What is asked.
            folder: Beside which the files of scenarios are looked for first.
            own: Measures beside those that are registered: `module:function`.

        Raises:
            ScenarioError: It does not fit; one line says why.
        """
        if not (spec.measures or own):
            raise ScenarioError("measures is missing, such as [drawdown] (abm sweep --list-measures)")
        for key in spec.vary:
            if key in FIXED or key in spec.measures:
                raise ScenarioError(f"vary.{key}: the table has a column of this name; choose another")
        scenarios = _Scenarios(spec, folder)
        design = designed(spec.design, spec.vary, scenarios.whole)
        runs = list(_runs(spec, scenarios, design.points))
        _check_built(spec, design.points, runs)
        return cls(name, spec, tuple(own), design, runs)

    @property
    def scenarios(self) -> list[Scenario]:
        """What is to be played."""
        return [run.scenario for run in self.runs if run.scenario is not None]

    @property
    def measure(self) -> str:
        """The functions that measure runs, as `Ensemble` asks for them."""
        return "+".join(filter(None, (functions(self.spec.measures), *self.own)))

    @cached_property
    def _sources(self) -> Mapping[str, Mapping[str, str]]:
        """By hash of a scenario and measure, the name under which functions give it; where a run does not trade the instrument there is none."""
        found: dict[tuple[str, ...], Mapping[str, str]] = {}
        sources = {}
        for scenario in self.scenarios:
            traded = tuple(scenario.instruments)
            if traded not in found:
                found[traded] = _named(self.spec, traded)
            sources[scenario.hash] = found[traded]
        for name in self.spec.measures:
            if not any(name in each for each in found.values()):
                chosen([name], traded, self.spec.instrument or traded[0])  # says what is wrong
        return sources

    def check(self) -> None:
        """Find out before the work whether there is what is to be measured.

        Raises:
            ScenarioError: A measure is none, or no run trades its instrument.
        """
        assert self._sources

    def table(self, outcomes: Iterable[Outcome]) -> pd.DataFrame:
        """One row a run, as `analysis.sweep.Sweep` has it; runs without an outcome are left out.

        Raises:
            ScenarioError: A measure of one's own has the name of another column.
        """
        came = {outcome.scenario: outcome for outcome in outcomes}
        rows, own = [], dict[str, None]()
        for run in self.runs:
            key = run.scenario.hash if run.scenario is not None else ""
            outcome = run.failed or came.get(key)
            if outcome is None:
                continue
            sources = self._sources.get(key, {})
            measures = {name: outcome.measures.get(sources.get(name, ""), math.nan) for name in self.spec.measures}
            if self.own and run.scenario is not None:
                more = self._of_own(outcome, tuple(run.scenario.instruments))
                own |= dict.fromkeys(more)
                measures |= more
            rows.append(
                {
                    **{"point": run.point, "replication": run.replication, "seed": run.seed, "scenario_hash": key},
                    **self.design.points[run.point],
                    **measures,
                    **{"seconds": outcome.seconds, "stage": outcome.stage},
                    **{"error": outcome.error, "traceback": outcome.traceback},
                }
            )
        columns = [*FIXED[:4], *self.spec.vary, *self.spec.measures, *own, *FIXED[4:]]
        table = pd.DataFrame(rows, columns=columns)
        for name in self.spec.vary:
            table[name] = _column([row[name] for row in rows])
        return table

    def _of_own(self, outcome: Outcome, traded: Sequence[str]) -> dict[str, float]:
        """What functions of one's own have measured."""
        registered = {f"{market}.{name}" for name, each in REGISTRY.items() if each.each for market in traded}
        registered |= {name for name, each in REGISTRY.items() if each.together}
        mine = {name: value for name, value in outcome.measures.items() if name not in registered}
        for name in mine:
            if name in FIXED or name in self.spec.vary or name in self.spec.measures:
                raise ScenarioError(f"measure {' '.join(self.own)}: {name!r} is another column's name; choose another")
        return mine


def read_plan(name: str, own: Sequence[str] = ()) -> Plan:
    """The sweep of a name in configs/sweeps, or in a file.

    Raises:
        ScenarioError: There is none, or it is wrong; one line says where and how to mend it.
    """
    path = specs.find("sweeps", name, "sweep")
    spec = specs.read(path, Spec, "sweep")
    try:
        plan = Plan.of(path.stem, spec, path.parent, own)
        plan.check()
        return plan
    except ScenarioError as error:
        raise ScenarioError(f"{path.name}: {error}") from None


def _named(spec: Spec, traded: Sequence[str]) -> dict[str, str]:
    """By measure, its name in a run that trades these instruments."""
    names = {}
    for name in spec.measures:
        try:
            names[name] = chosen([name], traded, spec.instrument or traded[0])[0]
        except ScenarioError:
            continue
    return names


# ------------------------------------------------------------------------------------------------------------ what is played


class _Scenarios:
    """The scenarios that a specification speaks of, each read once."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        self._spec, self._folder = spec, folder
        self._set = [nested(key, value) for key, value in spec.set.items()]
        self._readers: dict[str, Callable[[Iterable[Mapping[str, Any]]], Scenario]] = {}
        self._present: dict[str, Mapping[str, Any]] = {}
        named = spec.vary["scenario"].choices if "scenario" in spec.vary else [spec.scenario]
        if named is None or not all(isinstance(name, str) for name in named):
            raise ScenarioError("vary.scenario: give names of scenarios (abm list)")
        for name in named:
            self._read(name)
        first = self._present[named[0]]
        self.whole = frozenset(name for name, axis in spec.vary.items() if _is_whole(name, axis, first))

    def _read(self, name: str) -> None:
        beside = self._folder / name
        self._readers[name] = reader(beside if beside.is_file() else name)
        self._present[name] = self._readers[name](self._set).model_dump()

    def built(self, point: Point) -> Scenario:
        """The scenario of a point.

        Raises:
            ScenarioError: Its values do not fit together.
        """
        name = str(point.get("scenario", self._spec.scenario))
        over = [
            nested(key, value) for axis in point if axis != "scenario" for key, value in self._over(axis, point, name)
        ]
        return self._readers[name]([*self._set, *over])

    def _over(self, name: str, point: Point, scenario: str) -> Iterator[tuple[str, Any]]:
        """What a value of an axis lays over a scenario."""
        axis, value = self._spec.vary[name], point[name]
        if axis.variants is not None:
            yield from axis.variants[value].items()
            return
        for key in axis.keys or (name,):
            yield key, _times(key, self._present[scenario], value) if axis.factor else value


def _is_whole(name: str, axis: Axis, present: Mapping[str, Any]) -> bool:
    """Whether a range has whole numbers alone: that of a key where one stands."""
    if axis.low is None or axis.high is None or axis.factor or not (axis.low.is_integer() and axis.high.is_integer()):
        return False
    try:
        now = [value_at(present, key) for key in axis.keys or (name,)]
    except KeyError:
        return False
    return all(isinstance(value, int) and not isinstance(value, bool) for value in now)


def _times(key: str, present: Mapping[str, Any], factor: float) -> Any:
    try:
        now = value_at(present, key)
    except KeyError:
        raise ScenarioError(f"vary: {key} is not a key of the scenario (abm schema)") from None
    if isinstance(now, bool) or not isinstance(now, int | float):
        raise ScenarioError(f"vary: {key} is {now!r} and no number, so that nothing can multiply it")
    return round(now * factor) if isinstance(now, int) else now * factor


def _runs(spec: Spec, scenarios: _Scenarios, points: Sequence[Point]) -> Iterator[Run]:
    for number, point in enumerate(points):
        built, error, where = None, "", ""
        try:
            built = scenarios.built(point)
        except ScenarioError as wrong:
            error, where = str(wrong), traceback.format_exc()
        for replication in range(spec.replications):
            seed = _seed(spec, point, replication)
            if built is not None:
                yield Run(number, replication, seed, built.model_copy(update={"seed": seed}), None)
            else:
                yield Run(number, replication, seed, None, Outcome("", seed, {}, 0.0, error, "build", where))


def _seed(spec: Spec, point: Point, replication: int) -> int:
    """Independent seeds follow from the values of a point, so that it keeps them when others are added."""
    if spec.seeds == "common":
        return spec.seed + replication
    text = json.dumps([spec.seed, replication, point], sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def _check_built(spec: Spec, points: Sequence[Point], runs: Sequence[Run]) -> None:
    """Refuse a specification of which nothing can be built, or one of whose values fits nothing; else a point that cannot be is a failed run."""
    failed = {run.point: run.failed for run in runs if run.failed is not None}
    if len(failed) == len(points):
        raise ScenarioError(failed[0].error)
    for name, axis in spec.vary.items():
        for choice in axis.choices or ():
            mine = [number for number, point in enumerate(points) if point[name] is choice]
            if mine and all(number in failed for number in mine):
                raise ScenarioError(f"vary.{name}: {choice!r} fits no point: {failed[mine[0]].error}")


def _column(values: Sequence[Any]) -> "pd.Series[Any]":
    """Values of a key as one column: numbers, truths or text; what is mixed, or has parts, as JSON."""
    there = [value for value in values if value is not None]
    for kind in (bool, int | float, str):
        if all(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) for value in there):
            return pd.Series(values)
    return pd.Series([json.dumps(value, default=str) for value in values], dtype=str)
