"""One episode after the other: a market from a scenario and a seed, the seats of its agents, and the intervals in which they decide."""

import gc
import logging
import math
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from abm.clock import Seconds
from abm.exchange.description import Frozen
from abm.market import Market
from abm.scenario import Scenario, ScenarioError, load, meant
from experiments.envs.seat import Feature, Floats, Seat, Task, of_the_market

_log = logging.getLogger(__name__)
_SELDOM = 20.0  # a twentieth of the time at most goes into freeing memory


class Plan(Frozen):
    """When an episode begins, how long it is, and how often its agents decide."""

    begins: Seconds = Field(
        60.0, gt=0, description="time from the scenario's start to the first decision", examples=["2h"]
    )
    duration: Seconds = Field(1800.0, gt=0, description="from the first decision to the end", examples=["30min"])
    every: Seconds | None = Field(
        None,
        gt=0,
        description="time between two decisions; none: what is usual, in whole steps of the clock",
        examples=["2s"],
    )


def described[F: Frozen](kind: type[F], terms: Mapping[str, Any], where: str) -> F:
    """A description from what was given for it.

    Raises:
        ScenarioError: Something is wrong with that; one line names the key.
    """
    try:
        return kind.model_validate(terms)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
        key = ".".join(map(str, detail["loc"]))
        if detail["type"] == "extra_forbidden":
            known = [*kind.model_fields, *Plan.model_fields]
            raise ScenarioError(
                f"{where}: {key} is not a key{meant(key, known) or f'; there are {", ".join(known)}'}"
            ) from None
        raise ScenarioError(
            f"{where}: {key} = {detail['input']!r} {message}" if key else f"{where}: {message}"
        ) from None


class Episode:
    """The market in which some agents do their tasks.

    Args:
        scenario: A scenario, the name of one that is kept, or the path of one.
        overrides: Laid over it, as by `abm.load`.
        plan: When and how often.
        tasks: What each agent is to do, by name.
        usual: Seconds between two decisions where the plan does not say.

    Raises:
        ScenarioError: These do not go together.
    """

    def __init__(
        self,
        scenario: Scenario | str,
        overrides: Mapping[str, Any] | None,
        plan: Plan,
        tasks: Mapping[str, Task],
        usual: float,
    ) -> None:
        if isinstance(scenario, Scenario):
            if overrides:
                raise ScenarioError(f"{scenario.name}: overrides go with the name of a scenario; give abm.load() these")
            chosen = scenario
        else:
            chosen = load(scenario, **(overrides or {}))
        self.plan, step = plan, chosen.clock.step
        self.every = plan.every or math.ceil(usual / step) * step
        """Seconds between two decisions."""
        self.decisions = round(plan.duration / self.every)
        """Decisions of an episode."""
        self.scenario = _within(chosen, plan, self.every, len(tasks))
        self.tasks = {name: _fitted(name, task, chosen) for name, task in tasks.items()}
        self._market: Market | None = None
        self.seats: dict[str, Seat] = {}
        self.decided = 0
        """Decisions so far."""
        self._collected, self._collecting = time.perf_counter(), 0.0

    @property
    def market(self) -> Market:
        """The market of this episode.

        Raises:
            RuntimeError: No episode has begun.
        """
        if self._market is None:
            raise RuntimeError("no episode has begun; call reset() first")
        return self._market

    @property
    def over(self) -> bool:
        """Whether the time is over, or all tasks are done."""
        return self.decided >= self.decisions or all(seat.done for seat in self.seats.values())

    def begin(self, seed: int) -> None:
        """Set up a market with a seed, and let it trade until the first decision."""
        self._market, self.seats = None, {}
        self._make_room()
        self._market = market = Market(self.scenario.model_copy(update={"seed": seed}))
        self.seats = {name: task.seat(market, name) for name, task in self.tasks.items()}
        self.decided = 0
        market.run_for(self.scenario.clock.units(self.plan.begins))
        for seat in self.seats.values():
            seat.begin()
        _log.debug(
            "an episode of %d decisions begins at %g s, with %s",
            self.decisions,
            market.seconds,
            ", ".join(self.seats),
        )

    def _make_room(self) -> None:
        """Free the markets before: each refers to itself. A full collection takes as long as a reset, so it is not made each time."""
        now = time.perf_counter()
        if now - self._collected > _SELDOM * self._collecting:
            gc.collect()
            self._collected = time.perf_counter()
            self._collecting = self._collected - now

    def play(self, actions: Mapping[str, npt.ArrayLike]) -> None:
        """Let agents act, and time pass until they decide again.

        After the last interval what is left is settled in one more step. At the end all cash and coins are found again.

        Raises:
            RuntimeError: The episode is over, or the audit of the ledger fails.
            ValueError: An action does not have the numbers of its task.
        """
        market = self.market
        if self.over:
            raise RuntimeError("the episode is over; call reset() first")
        for name, action in actions.items():
            self.seats[name].tell(_bounded(name, action, self.tasks[name].does), self.every)
        market.run_for(self.scenario.clock.units(self.every))
        self.decided += 1
        if self.decided == self.decisions:
            settling = [seat.settle() for seat in self.seats.values()]  # each of them, so no generator
            if any(settling):
                market.run_for(1)
        if self.over and not (audit := market.house.audit()).passed:
            raise RuntimeError(f"{self.scenario.name}: the audit failed: {'; '.join(audit.faults)}")

    def observation(self, name: str) -> npt.NDArray[np.float32]:
        """What an agent sees now, within the bounds of its space."""
        seat, sees = self.seats[name], self.tasks[name].sees
        seen = np.concatenate((of_the_market(seat, 1.0 - self.decided / self.decisions), seat.state()))
        return np.clip(seen, [f.low for f in sees], [f.high for f in sees]).astype(np.float32)

    def info(self, name: str) -> dict[str, Any]:
        """What is no part of the observation: the market's seed, time (seconds since its start), mid, and what the agent has done."""
        seat = self.seats[name]
        market = {"seed": self.market.scenario.seed, "seconds": self.market.seconds, "mid": seat.book.mid}
        return market | dict(seat.about())


def _bounded(name: str, action: npt.ArrayLike, does: tuple[Feature, ...]) -> Floats:
    numbers = np.asarray(action, np.float64)
    if numbers.shape != (len(does),) or np.isnan(numbers).any():
        wanted = ", ".join(f.name for f in does)
        raise ValueError(f"{name}: an action is {len(does)} numbers ({wanted}), not {np.array2string(numbers)}")
    return np.clip(numbers, [f.low for f in does], [f.high for f in does])


def _fitted(name: str, task: Task, scenario: Scenario) -> Task:
    """The task with its instrument."""
    traded = task.instrument or next(iter(scenario.instruments))
    if traded not in scenario.instruments:
        raise ScenarioError(f"{name}: instrument: {traded!r} is not traded here{meant(traded, scenario.instruments)}")
    if wrong := task.unfit(scenario.instruments[traded]):
        raise ScenarioError(f"{name}: {wrong}")
    return task.model_copy(update={"instrument": traded})


def _within(scenario: Scenario, plan: Plan, every: float, agents: int) -> Scenario:
    """The part of a scenario that is played, with accounts for the agents."""
    clock = scenario.clock
    for key, span, part in (
        ("begins", plan.begins, clock.step),
        ("every", every, clock.step),
        ("duration", plan.duration, every),
    ):
        if abs(span / part - round(span / part)) > 1e-6 or span < part:
            whole = "decisions (every)" if key == "duration" else "steps (clock.step)"
            raise ScenarioError(f"{scenario.name}: {key} = {span:g} s is not a whole number of {whole} of {part:g} s")
    end = clock.start + timedelta(seconds=plan.begins + plan.duration + clock.step)  # a step more, to settle
    if end > clock.end:
        lasts = clock.steps * clock.step
        raise ScenarioError(
            f"{scenario.name}: begins + duration and a step are {(end - clock.start).total_seconds():g} s, and it lasts {lasts:g} s; "
            "choose a shorter duration, or a later clock.end"
        )
    spare = max(scenario.spare_accounts, agents)
    return scenario.model_copy(update={"clock": clock.model_copy(update={"end": end}), "spare_accounts": spare})
