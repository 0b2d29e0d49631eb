"""Runs for other programs: `batch_run` as Mesa has it, and a function of parameters for calibrators. Both are sweeps without a file."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from abm.record import Result
from abm.scenario import ScenarioError
from analysis.sweep import Sweep
from experiments.ensemble import Ensemble
from experiments.specs import explained
from experiments.sweep import played
from experiments.sweep_plan import Plan
from experiments.sweep_spec import Spec


def batch_run(
    scenario: str,
    parameters: Mapping[str, Any | Iterable[Any]],
    number_processes: int = 1,
    iterations: int = 1,
    display_progress: bool = True,
    *,
    measures: Sequence[str | Callable[[Result], Mapping[str, float]]] = ("return", "drawdown"),
    seed: int = 1,
) -> list[dict[str, Any]]:
    """Play each combination of parameters, as `mesa.batch_run` does; `pandas.DataFrame` makes a table of it.

    Args:
        scenario: Name of a scenario, or path of a YAML file.
        parameters: By dotted key of the scenario a value, or several in a list, tuple, range or array.
        number_processes: Processes that play; 1: this one.
        iterations: Runs of each combination.
        display_progress: Show progress on stderr.
        measures: Names of `abm sweep --list-measures`, and functions of a `Result` that stand in a module.
        seed: The first of the seeds; iteration k has `seed + k` in all combinations.

    Returns:
        By run, all combinations of one iteration before the next: RunId, iteration, seed, the parameters, the measures, and error (empty where it
        went well).

    Raises:
        ScenarioError: A key or a value does not fit the scenario, or there is no such measure.
    """
    vary = {key: _values(value) for key, value in parameters.items()}
    content = {"scenario": scenario, "vary": vary, "replications": iterations, "seed": seed}
    found = _swept(content, measures, number_processes, not display_progress)
    names = {"point": "RunId", "replication": "iteration"}
    table = found.table.drop(columns=["scenario_hash", "seconds", "stage", "traceback"]).rename(columns=names)
    table = table.sort_values(["iteration", "RunId"], ignore_index=True)
    table["RunId"] = range(len(table))
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


class Simulator:
    """A function of parameters, a number of runs and a seed, for calibrators; a context manager where it has workers.

    Args:
        scenario: Name of a scenario, or path of a YAML file.
        keys: Of the scenario, which the parameters stand for; or with more to each, as under `vary` in a sweep.
        measures: Names of `abm sweep --list-measures`, and functions of a `Result` that stand in a module.
        set: Values laid over the scenario, by dotted key.
        store: Where outcomes are kept, so that none is played twice.
        workers: Processes that play; 1: this one.
        scheduler: Address of a dask scheduler whose workers play instead.
    """

    def __init__(
        self,
        scenario: str,
        keys: Sequence[str],
        measures: Sequence[str | Callable[[Result], Mapping[str, float]]],
        *,
        set: Mapping[str, Any] | None = None,
        store: Path | str | None = None,
        workers: int = 1,
        scheduler: str = "",
    ) -> None:
        self._keys, self._measures = list(keys), measures
        self._content = {"scenario": scenario, "set": dict(set or {})}
        self._ensemble: Ensemble | None = None
        self._how: dict[str, Any] = {"store": store, "workers": workers, "scheduler": scheduler}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def __call__(self, theta: Sequence[float], n: int, seed: int) -> npt.NDArray[np.float64]:
        """Play n runs with the seeds `seed`, `seed + 1` and so on.

        Args:
            theta: Values of the keys.
            n: How many runs.
            seed: The first seed.

        Returns:
            Runs x measures, those of one's own functions last; not a number where a run failed.

        Raises:
            ScenarioError: The values do not fit the scenario.
        """
        vary = {key: [value] for key, value in zip(self._keys, _values(theta), strict=True)}
        plan = _plan({**self._content, "vary": vary, "replications": n, "seed": seed}, self._measures)
        if self._ensemble is None:
            self._ensemble = self._stack.enter_context(Ensemble(plan.measure, **self._how))
        found = played(plan, self._ensemble)
        return found.table[found.measures].to_numpy(np.float64)


def _swept(content: Mapping[str, Any], measures: Sequence[Any], workers: int, silent: bool) -> Sweep:
    plan = _plan(content, measures)
    with Ensemble(plan.measure, workers=workers) as ensemble:
        return played(plan, ensemble, silent)


def _plan(content: Mapping[str, Any], measures: Sequence[Any]) -> Plan:
    named = [name for name in measures if isinstance(name, str)]
    own = [f"{function.__module__}:{function.__qualname__}" for function in measures if not isinstance(function, str)]
    try:
        spec = Spec.model_validate({**content, "measures": named})
    except ValidationError as error:
        raise ScenarioError(explained(error, Spec)) from None
    plan = Plan.of(spec.scenario, spec, own=own)
    plan.check()
    return plan


def _values(value: Any) -> list[Any]:
    """A value, or several, as plain Python."""
    plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    several = list(plain) if isinstance(plain, list | tuple | range) else [plain]
    return [each.item() if isinstance(each, np.generic) else each for each in several]
