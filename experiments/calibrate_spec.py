"""What a calibration is asked to do: `configs/calibrations/NAME.yaml`, checked against its scenario and the observations before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Self

import pandas as pd
from pydantic import Field, field_validator, model_validator

from abm.clock import Utc
from abm.exchange.description import Frozen
from abm.scenario import Scenario, ScenarioError, load, meant, value_at
from analysis.calibration import Parameter, Target
from analysis.compare import Row, compare_measured, read_observations
from experiments import specs


class Vary(Frozen):
    """A number that is searched for."""

    low: float = Field(description="lower bound", examples=[0.5])
    high: float = Field(description="upper bound", examples=[2.0])
    log: bool = Field(False, description="whether the search goes by logarithms")
    keys: tuple[str, ...] = Field((), description="keys of the scenario it stands for; its own name where left out")
    factor: bool = Field(False, description="whether it multiplies what stands there, instead of taking its place")
    about: str = Field("", description="what it is")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be less than high")
        if self.log and self.low <= 0.0:
            raise ValueError("low must be greater than 0 where log is true")
        return self


class Spec(Frozen):
    """A calibration."""

    scenario: str = Field(description="scenario, by name or path", examples=["first-hour"])
    set: dict[str, Any] = Field({}, description="values laid over it, by dotted key")
    vary: dict[str, Vary] = Field(
        min_length=1, description="what is searched for, by dotted key or by a name with keys"
    )
    targets: tuple[str, ...] = Field((), description="ids of observations; where left out, all whose role is fitted")
    ends: Utc | None = Field(None, description="runs are cut here (UTC); at the end of the last window where left out")
    seeds: tuple[int, ...] = Field((1, 2, 3), min_length=1, description="seeds of the runs of each trial")
    trials: int = Field(40, ge=1, description="trials in all, whole batches")
    batch: int = Field(4, ge=1, description="trials that are asked for at once")
    bound: float = Field(
        25.0,
        gt=0,
        description="what a target adds to the loss as it is missed by more and more, and where a run failed",
    )
    search: int = Field(1, ge=0, lt=2**31, description="seed of the search")
    step: float = Field(0.1, gt=0, le=0.5, description="share of a range by which curvature is measured, either way")

    @field_validator("seeds", "targets")
    @classmethod
    def _once[T](cls, value: tuple[T, ...]) -> tuple[T, ...]:
        if len(set_ := frozenset(value)) < len(value):
            twice = next(each for each in set_ if value.count(each) > 1)
            raise ValueError(f"{twice} stands twice; give it once")
        return value

    @model_validator(mode="after")
    def _whole_batches(self) -> Self:
        if self.trials % self.batch:
            raise ValueError(
                f"trials: {self.trials} is no multiple of batch; write {-(-self.trials // self.batch) * self.batch}"
            )
        return self


def read_spec(name: str) -> "Problem":
    """The calibration of a name, or in a file.

    Raises:
        ScenarioError: There is none, or it is wrong; one line says where and how to mend it.
    """
    path = specs.find("calibrations", name, "calibration")
    spec = specs.read(path, Spec, "calibration")
    beside = path.parent / spec.scenario
    try:
        return Problem.of(path.stem, spec, str(beside) if beside.is_file() else spec.scenario)
    except ScenarioError as error:
        raise ScenarioError(f"{path.name}: {error}") from None


# ------------------------------------------------------------------------------------------------------------- the problem


@dataclass(frozen=True)
class Problem:
    """A calibration that fits its scenario."""

    name: str
    spec: Spec
    source: str
    """Name or path of the scenario."""
    base: Scenario
    """The scenario as it stands, cut where runs end."""
    targets: tuple[Target, ...]
    parameters: tuple[Parameter, ...]
    present: Mapping[str, float]
    """What stands in the scenario now, of those parameters that have one value there."""

    @classmethod
    def of(cls, name: str, spec: Spec, source: str) -> Self:
        """Check a calibration against its scenario and the observations."""
        whole = load(source, **spec.set)
        rows = _fitted(whole, spec.targets)
        seen = read_observations(whole.observations).loc[[row.observation for row in rows]]
        end = _end(spec, whole, seen["to_utc"])
        spec = spec.model_copy(update={"ends": end})
        for row in rows:
            _check_target(row, dict(seen.loc[row.observation]), whole, end)
        parameters, present = _parameters(spec.vary, whole.model_dump())
        targets = tuple(Target(row.observation, row.observed, row.low, row.high) for row in rows)
        problem = cls(name, spec, source, load(source, **spec.set | _cut(spec)), targets, parameters, present)
        for parameter in parameters:
            for value in (parameter.low, parameter.high):
                problem.scenario({parameter.name: value}, spec.seeds[0])
        return problem

    def overlay(self, values: Mapping[str, float]) -> dict[str, Any]:
        """The dotted keys of the scenario for values of parameters."""
        content = self.base.model_dump()
        found: dict[str, Any] = {}
        for name, value in values.items():
            vary = self.spec.vary[name]
            for key in vary.keys or (name,):
                now = value_at(content, key)
                new = now * value if vary.factor else value
                found[key] = round(new) if isinstance(now, int) else new
        return found

    def scenario(self, values: Mapping[str, float], seed: int) -> Scenario:
        """The run of a trial at a seed.

        Raises:
            ScenarioError: These values do not fit together.
        """
        return load(self.source, **self.spec.set | _cut(self.spec) | self.overlay(values) | {"seed": seed})

    def rows(self, runs: list[Mapping[str, float]]) -> list[Row]:
        """The targets beside runs, as `abm compare` has them."""
        mine = {target.observation for target in self.targets}
        said = [{**dict.fromkeys(read_observations(self.base.observations).index, float("nan")), **run} for run in runs]
        return [row for row in compare_measured(self.base.model_dump(mode="json"), said) if row.observation in mine]


def _cut(spec: Spec) -> dict[str, Any]:
    """Runs end where the targets do; exports of the network may lie behind that, and no measure needs them."""
    return {"clock.end": spec.ends, "recording.network": None}


def _end(spec: Spec, whole: Scenario, ends: "pd.Series[pd.Timestamp]") -> datetime:
    """Where runs are cut: where it is said, or at the end of the last window, which is at a full hour as those of `abm compare` are."""
    latest: datetime = ends.dt.ceil("h").max().to_pydatetime()
    end = spec.ends or min(latest, whole.clock.end)
    if not whole.clock.start < end <= whole.clock.end:
        raise ScenarioError(
            f"ends: {end:%Y-%m-%dT%H:%MZ} is not within the run of {whole.name} (clock.start to clock.end)"
        )
    return end


def _fitted(scenario: Scenario, asked: tuple[str, ...]) -> list[Row]:
    """The rows of the targets: those asked for, or all that are fitted. What is put in or predicted is not touched."""
    if not scenario.observations:
        raise ScenarioError(f"scenario: {scenario.name} names no observations to be fitted to")
    rows = {row.observation: row for row in compare_measured(scenario.model_dump(mode="json"), [])}
    for name in asked:
        if name not in rows:
            raise ScenarioError(
                f"targets: {name}: no observation in {scenario.observations} with a measure{meant(name, rows)}"
            )
        if rows[name].role != "fitted":
            says = (
                "compare of the scenario"
                if name in scenario.compare and scenario.compare[name].role
                else scenario.observations
            )
            raise ScenarioError(f"targets: {name} is {rows[name].role}, not fitted ({says}); leave it out")
    found = [row for row in rows.values() if row.observation in asked or (not asked and row.role == "fitted")]
    if not found:
        raise ScenarioError(f"targets: {scenario.name} has no observation whose role is fitted")
    return found


def _check_target(row: Row, seen: Mapping[str, Any], scenario: Scenario, ends: datetime) -> None:
    """Refuse a target that runs cannot say anything of."""
    start, end, market = (seen[column] for column in ("from_utc", "to_utc", "market"))
    if not (row.low < row.high and row.high - row.low < float("inf")):
        raise ScenarioError(
            f"targets: {row.observation} has no two bounds that differ, so that its misfit has no scale; leave it out"
        )
    if start < scenario.clock.start or end > ends:
        window = f"{start:%Y-%m-%dT%H:%M} to {end:%Y-%m-%dT%H:%M}"
        run = f"{scenario.clock.start:%Y-%m-%dT%H:%M} to {ends:%Y-%m-%dT%H:%M}"
        raise ScenarioError(
            f"targets: {row.observation} is of {window}, which runs of {run} do not cover; leave it out, or change ends"
        )
    if isinstance(market, str) and not any(fnmatchcase(name, market) for name in scenario.instruments):
        raise ScenarioError(
            f"targets: {row.observation} is about {market}, which {scenario.name} does not trade; leave it out"
        )


def _parameters(vary: Mapping[str, Vary], content: Mapping[str, Any]) -> tuple[tuple[Parameter, ...], dict[str, float]]:
    """The parameters, and what stands in the scenario now, of those for which one number does."""
    keys = [key for name, each in vary.items() for key in each.keys or (name,)]
    for key in keys:
        if keys.count(key) > 1:
            raise ScenarioError(f"vary: {key} is varied twice; leave it out of one")
    found = [_parameter(name, each, content) for name, each in vary.items()]
    return tuple(parameter for parameter, _ in found), {
        parameter.name: now for parameter, now in found if now is not None
    }


def _parameter(name: str, vary: Vary, content: Mapping[str, Any]) -> tuple[Parameter, float | None]:
    """A parameter, and what stands for it in the scenario now, if that is one number."""
    now = []
    for key in vary.keys or (name,):
        try:
            now.append(value_at(content, key))
        except KeyError:
            raise ScenarioError(f"vary: {key} is not a key of the scenario (abm schema)") from None
        if isinstance(now[-1], bool) or not isinstance(now[-1], int | float):
            raise ScenarioError(f"vary: {key} is {now[-1]!r} and no number; vary a key that is one")
    whole = not vary.factor and all(isinstance(value, int) for value in now)
    if whole and not (vary.low.is_integer() and vary.high.is_integer()):
        raise ScenarioError(f"vary: {name}: low and high must be whole numbers, as what stands there is")
    present = 1.0 if vary.factor else now[0] if len(set(now)) == 1 else None
    return Parameter(name, vary.low, vary.high, vary.log, whole), present
