"""The search: batches of trials that are asked for, played and told in order, so that workers and interruptions change nothing."""

import contextlib
import json
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, Trial, TrialState

from abm.scenario import ABOUT, Scenario, ScenarioError
from analysis.calibration import Direction, Floats, Parameter, Precision, identifiability, medians, terms
from experiments.calibrate_held import GRACE, Held
from experiments.calibrate_spec import Problem
from experiments.database import alone, is_url, options, shown, told, url_of
from experiments.ensemble import Ensemble, Outcome
from experiments.one_run import version
from experiments.progress import say

MEASURE = "analysis.compare:measured"
_LOOK = 1.0  # seconds between two looks at whether a trial has become free


@dataclass(frozen=True)
class Played:
    """A trial that is over."""

    number: int
    values: Mapping[str, float]
    loss: float
    moments: Mapping[str, float]
    """Median over the seeds, by target; not a number where there is none."""
    error: str
    """Why it counts as failed; empty where it does not."""


class Search:
    """The trials of a calibration in a database: those that are over, and the next batch.

    In a database that is shared several commands are at one search, each at trials of its own: a batch is asked for by one of them, and a
    trial belongs to whoever holds it, as Optuna's table of heartbeats says. One whose holder is silent for `GRACE` seconds is free again.

    Args:
        problem: What is searched for.
        storage: Path of a SQLite file, or URL of a database.

    Raises:
        ScenarioError: The database cannot be used, or holds another calibration of this name.
    """

    def __init__(self, problem: Problem, storage: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._problem, self._where = problem, shown(storage)
        self._shared, self._waited = is_url(storage), False
        if not self._shared:
            _not_another(Path(storage))
        url = url_of(storage)
        with self._told():
            self._engine = sqlalchemy.create_engine(url, **options(url))
            with alone(self._engine, "studies"):  # tables that two make at once are an error
                self._storage = optuna.storages.RDBStorage(
                    url.render_as_string(hide_password=False), engine_kwargs=options(url)
                )
                self._study = optuna.create_study(
                    storage=self._storage, study_name=problem.name, direction="minimize", load_if_exists=True
                )
                try:
                    self._same()
                except ScenarioError:
                    self.close()
                    raise

    def close(self) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()
        self._engine.dispose()

    @contextlib.contextmanager
    def alone(self, waiting: str = "") -> Iterator[None]:
        """Let no other command at this search do meanwhile what it does so, too; `waiting` is said where one does."""
        with self._told(), alone(self._engine, f"study {self._problem.name}", waiting):
            yield

    def run(self, ensemble: Ensemble, silent: bool = False, at_once: int = 1) -> list[Played]:
        """Play what is missing of all batches.

        Args:
            ensemble: Plays.
            silent: Show no progress.
            at_once: Trials to hold at once where others are at the search too; the first batch, and all where nobody is, are held whole.

        Raises:
            ScenarioError: Every trial of the first batch failed, or none says anything of a target; nothing is told then. Or
                another command is at the same file.
        """
        spec = self._problem.spec
        with Held(self._storage) if self._shared else contextlib.nullcontext() as held:
            for first in range(0, spec.trials, spec.batch):
                while self._some(first, spec.batch if first == 0 else at_once, ensemble, silent, held):
                    pass
        with self._told():
            return [_over(trial) for trial in self._study.get_trials(states=(TrialState.COMPLETE,))]

    def _some(self, first: int, most: int, ensemble: Ensemble, silent: bool, held: Held | None) -> bool:
        """Play some trials of a batch, or wait a moment where others hold all that are left; false if the batch is over."""
        spec = self._problem.spec
        label = f"trials {first + 1} to {first + spec.batch} of {spec.trials}"
        with self.alone():
            waiting = [trial for number in range(first, first + spec.batch) if (trial := self._trial(number))]
            mine = held.take(waiting, most) if held else waiting
        if not waiting:
            return False
        if not mine:
            if not silent and not self._waited:
                say(f"{label}: other commands hold those that are left (one that dies is noticed after {GRACE:g} s)")
            self._waited = True
            time.sleep(_LOOK)
            return True
        outcomes = _play(self._problem, [trial.params for trial in mine], ensemble, label, silent)
        if first == 0:
            self._sound(outcomes)
        with self._told():
            for trial, runs in zip(mine, outcomes, strict=True):
                self._tell(trial, runs)
                if held:
                    held.told(trial)
        return True

    def _trial(self, number: int) -> Trial | None:
        """A trial that is to be played: one that was asked for and not told, or the next; None if it is over.

        What is asked for depends on the number and on what is told, and on nothing else: not on what this process has drawn before.
        """
        kept = {trial.number: trial for trial in self._study.get_trials(deepcopy=False)}
        if number in kept and kept[number].state.is_finished():
            return None
        problem = self._problem
        self._study.sampler = _sampler(problem.spec.search, number)
        if not kept and _begins(problem):
            self._study.enqueue_trial(dict(problem.present))
        if number in kept and kept[number].state == TrialState.RUNNING:
            trial = Trial(self._study, kept[number]._trial_id)
        else:
            trial = self._study.ask()
            if trial.number != number:
                raise self._taken()
        for position, parameter in enumerate(problem.parameters, 1):
            self._study.sampler = _sampler(problem.spec.search, number, position)
            if parameter.whole:
                trial.suggest_int(parameter.name, int(parameter.low), int(parameter.high), log=parameter.log)
            else:
                trial.suggest_float(parameter.name, parameter.low, parameter.high, log=parameter.log)
        return trial

    def _tell(self, trial: Trial, runs: Sequence[Outcome]) -> None:
        moments = medians(self._problem.targets, [run.measures for run in runs])
        try:
            trial.set_user_attr(
                "moments", {name: None if np.isnan(value) else value for name, value in moments.items()}
            )
            trial.set_user_attr("error", next((run.error for run in runs if run.error), ""))
            self._study.tell(trial, _loss(self._problem, runs), skip_if_finished=self._shared)
        except optuna.exceptions.UpdateFinishedTrialError:
            if not self._shared:  # there somebody else took it for dropped, and came to the same
                raise self._taken() from None

    def _taken(self) -> ScenarioError:
        return ScenarioError(
            f"{self._where}: another command is searching for {self._problem.name}; wait for it, or name another --store"
        )

    def _sound(self, trials: Sequence[Sequence[Outcome]]) -> None:
        """Stop where going on is of no use."""
        good = [runs for runs in trials if not any(run.error for run in runs)]
        if not good:
            error = next(run.error for run in trials[0] if run.error)
            raise ScenarioError(
                f"{self._problem.name}: every trial of the first batch failed: {error}; mend it, and the same command goes on"
            )
        for target in self._problem.targets:
            if all(np.isnan(run.measures.get(target.observation, np.nan)) for runs in good for run in runs):
                raise ScenarioError(
                    f"{self._problem.name}: targets: no run says anything of {target.observation} (its window or market); leave it out"
                )

    def _same(self) -> None:
        """Refuse to go on with another calibration than was begun."""
        now = _flat(_identity(self._problem))
        if "begun" not in self._study.user_attrs:
            self._study.set_user_attr("begun", now)
            return
        before = self._study.user_attrs["begun"]
        for key in [*now, *before]:
            if before.get(key) != now.get(key):
                raise ScenarioError(
                    f"{self._where}: {self._problem.name} was begun with {key} = {before.get(key)!r} and not {now.get(key)!r}; "
                    "go back to that, or name another --store"
                )

    def _told(self) -> AbstractContextManager[None]:
        return told(self._where)


def _sampler(*seeds: int) -> optuna.samplers.BaseSampler:
    """Tree-structured Parzen estimators (Bergstra et al. 2011) over all parameters together; trials that are out count as bad ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _not_another(path: Path) -> None:
    """Refuse a SQLite file that is something else, before tables are made in it."""
    if not path.is_file():
        return
    try:
        with contextlib.closing(sqlite3.connect(path)) as base:
            tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        raise ScenarioError(f"{path}: {error}; remove it, or name another --store") from None
    if tables and "studies" not in tables:
        raise ScenarioError(f"{path}: is not a store of calibrations; name another --store")


def _begins(problem: Problem) -> bool:
    """Whether the scenario as it stands is within the ranges, and so the first trial."""
    return all(
        parameter.name in problem.present and parameter.low <= problem.present[parameter.name] <= parameter.high
        for parameter in problem.parameters
    )


def _identity(problem: Problem) -> dict[str, Any]:
    """All that the trials depend on; how many there are is not part of it."""
    spec = problem.spec.model_dump(mode="json", include={"vary", "seeds", "batch", "bound", "search"})
    for vary in spec["vary"].values():
        del vary["about"]
    targets = {target.observation: [target.observed, target.low, target.high] for target in problem.targets}
    scenario = problem.base.model_dump(mode="json", exclude=ABOUT | {"name", "seed"})
    return spec | {"targets": targets, "code": version(MEASURE, problem.base), "scenario": scenario}


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {path: json.loads(json.dumps(value))}
    return {key: leaf for name, part in value.items() for key, leaf in _flat(part, f"{path}.{name}".strip(".")).items()}


def _over(trial: FrozenTrial) -> Played:
    moments = {name: np.nan if value is None else value for name, value in trial.user_attrs["moments"].items()}
    return Played(trial.number, trial.params, float(trial.value or 0.0), moments, trial.user_attrs["error"])


def _play(
    problem: Problem, trials: Sequence[Mapping[str, float]], ensemble: Ensemble, label: str, silent: bool
) -> list[list[Outcome]]:
    """The outcomes of each trial, by seed. Values that do not fit together are outcomes that failed."""
    scenarios: dict[tuple[int, int], Scenario] = {}
    refused: dict[int, str] = {}
    for number, values in enumerate(trials):
        try:
            scenarios |= {(number, seed): problem.scenario(values, seed) for seed in problem.spec.seeds}
        except ScenarioError as error:
            refused[number] = str(error)
    played = dict(zip(scenarios, ensemble.play(list(scenarios.values()), label, silent), strict=True))
    return [
        [
            played.get((number, seed)) or Outcome("", seed, {}, 0.0, refused.get(number, ""))
            for seed in problem.spec.seeds
        ]
        for number in range(len(trials))
    ]


# ----------------------------------------------------------------------------------------------------------- curvature


@dataclass(frozen=True)
class Curvature:
    """What the loss does around the best trial."""

    precisions: Sequence[Precision]
    directions: Sequence[Direction]
    profiles: Mapping[str, Sequence[tuple[float, float]]]
    """By parameter its values below, at and above the best, with their losses."""


def curvature(problem: Problem, best: Played, ensemble: Ensemble, silent: bool = False) -> Curvature:
    """Move each parameter either way from the best, the others and the seeds as they are, and see what the moments do."""
    ends = {
        parameter.name: _ends(parameter, best.values[parameter.name], problem.spec.step)
        for parameter in problem.parameters
    }
    points = [dict(best.values)] + [{**best.values, name: value} for name, pair in ends.items() for value in pair]
    outcomes = _play(problem, points, ensemble, "curvature", silent)
    standard = np.array([_standard(problem, runs) for runs in outcomes])  # points, seeds, targets
    derivatives = np.stack(
        [
            _slope(parameter, ends[parameter.name], standard[2 * k + 1], standard[2 * k + 2])
            for k, parameter in enumerate(problem.parameters)
        ],
        axis=-1,
    )
    seeds = len(problem.spec.seeds)
    noise = np.nan_to_num(standard[0].var(axis=0, ddof=1) / seeds) if seeds > 1 else np.zeros(len(problem.targets))
    precisions, directions = identifiability([p.name for p in problem.parameters], derivatives, noise)
    losses = [_loss(problem, runs) for runs in outcomes]
    profiles = {
        p.name: [
            (ends[p.name][0], losses[2 * k + 1]),
            (best.values[p.name], losses[0]),
            (ends[p.name][1], losses[2 * k + 2]),
        ]
        for k, p in enumerate(problem.parameters)
    }
    return Curvature(precisions, directions, profiles)


def _ends(parameter: Parameter, value: float, step: float) -> tuple[float, float]:
    """The values a step below and above, within the range."""
    share = parameter.share(value)
    return parameter.value(max(share - step, 0.0)), parameter.value(min(share + step, 1.0))


def _slope(parameter: Parameter, ends: tuple[float, float], below: Floats, above: Floats) -> Floats:
    """Change of the moments over the whole range, by seed and target; nothing is known where a whole number has no neighbours."""
    width = parameter.share(ends[1]) - parameter.share(ends[0])
    return (above - below) / width if width > 0.0 else np.full_like(below, np.nan)


def _standard(problem: Problem, runs: Sequence[Outcome]) -> list[list[float]]:
    """Distances from the observations in half widths, by seed and target."""
    return [[(run.measures.get(t.observation, np.nan) - t.observed) / t.scale for t in problem.targets] for run in runs]


def _loss(problem: Problem, runs: Sequence[Outcome]) -> float:
    targets, bound = problem.targets, problem.spec.bound
    if any(run.error for run in runs):
        return bound * len(targets)
    return sum(terms(targets, medians(targets, [run.measures for run in runs]), bound).values())
