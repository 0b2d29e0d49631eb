"""The environments: `Execution` and `MarketMaking` of one agent (Gymnasium), `SharedMarket` of several (PettingZoo)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box
from gymnasium.utils import seeding
from pettingzoo import ParallelEnv

from abm.market import Market
from abm.scenario import Scenario
from experiments.envs.episode import Episode, Plan, described
from experiments.envs.execution import ExecutionTask
from experiments.envs.market_making import MarketMakingTask
from experiments.envs.seat import Feature, Task

Seen = npt.NDArray[np.float32]


def _space(features: tuple[Feature, ...]) -> Box:
    low, high = (np.array([getattr(f, bound) for f in features], np.float32) for bound in ("low", "high"))
    return Box(low, high, dtype=np.float32)


def _seed(rng: np.random.Generator) -> int:
    """The seed of an episode's market."""
    return int(rng.integers(2**31))


class _Alone(gymnasium.Env[Seen, Seen]):
    """One agent in a market.

    Args:
        scenario: A scenario, the name of one that is kept (`abm list`), or the path of one.
        overrides: Laid over it, as by `abm.load`: `{"traders.noise.accounts": 50}`.
        **terms: Keys of the plan (`begins`, `duration`, `every`) and of the task.

    Raises:
        ScenarioError: These do not go together.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    render_mode = None
    _task: ClassVar[type[Task]]
    _usual: ClassVar[float]
    """Seconds between two decisions."""

    def __init__(
        self, scenario: Scenario | str = "first-hour", *, overrides: Mapping[str, Any] | None = None, **terms: Any
    ) -> None:
        name = type(self).__name__
        of_plan = {key: terms.pop(key) for key in [*terms] if key in Plan.model_fields}
        plan, task = described(Plan, of_plan, name), described(self._task, terms, name)
        self.episode = Episode(scenario, overrides, plan, {"agent": task}, self._usual)
        self.observation_space, self.action_space = _space(task.sees), _space(task.does)

    @property
    def market(self) -> Market:
        """The market of this episode: its `result()` is that of any run."""
        return self.episode.market

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Seen, dict[str, Any]]:
        """Begin an episode. With a seed it is always the same one, and so are those after it; there are no options."""
        super().reset(seed=seed)
        self.episode.begin(_seed(self.np_random))
        return self.episode.observation("agent"), self.episode.info("agent")

    def step(self, action: npt.ArrayLike) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """Act, and see what has become of it an interval later.

        The time that is left is part of the observation, so that its end terminates an episode and never truncates it.
        """
        episode = self.episode
        episode.play({"agent": action})
        reward = episode.seats["agent"].reward()
        return episode.observation("agent"), reward, episode.over, False, episode.info("agent")


class Execution(_Alone):
    """To trade a quantity within a time: `ExecutionTask` says what, `ExecutionSeat` for which reward. Decides every 30 s."""

    _task = ExecutionTask
    _usual = 30.0


class MarketMaking(_Alone):
    """To quote a bid and an offer: `MarketMakingTask` says what, `MarketMakingSeat` for which reward. Decides every 2 s."""

    _task = MarketMakingTask
    _usual = 2.0


class SharedMarket(ParallelEnv[str, Seen, Seen]):
    """Several agents in one market, each with a task of its own; they decide at the same moments (every 5 s), and trade with each other too.

    Args:
        scenario: A scenario, the name of one that is kept (`abm list`), or the path of one.
        overrides: Laid over it, as by `abm.load`.
        agents: What each is to do, by name; two market makers and a seller where left out.
        **plan: `begins`, `duration` and `every`.

    Raises:
        ScenarioError: These do not go together.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "shared_market_v0", "render_modes": []}
    render_mode = None

    def __init__(
        self,
        scenario: Scenario | str = "first-hour",
        *,
        overrides: Mapping[str, Any] | None = None,
        agents: Mapping[str, Task] | None = None,
        **plan: Any,
    ) -> None:
        tasks = agents or {"maker_0": MarketMakingTask(), "maker_1": MarketMakingTask(), "seller": ExecutionTask()}
        self.episode = Episode(scenario, overrides, described(Plan, plan, "SharedMarket"), tasks, 5.0)
        self.possible_agents = list(tasks)
        self.agents: list[str] = []
        self.observation_spaces = {name: _space(task.sees) for name, task in tasks.items()}
        self.action_spaces = {name: _space(task.does) for name, task in tasks.items()}
        self._rng, _ = seeding.np_random()

    @property
    def market(self) -> Market:
        """The market of this episode: its `result()` is that of any run."""
        return self.episode.market

    def observation_space(self, agent: str) -> Box:
        """What an agent sees."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Box:
        """What an agent does."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Seen], dict[str, dict[str, Any]]]:
        """Begin an episode. With a seed it is always the same one, and so are those after it; there are no options."""
        if seed is not None:
            self._rng, _ = seeding.np_random(seed)
        self.episode.begin(_seed(self._rng))
        self.agents = [*self.possible_agents]
        return self._seen(), self._told()

    def step(
        self, actions: Mapping[str, npt.ArrayLike]
    ) -> tuple[dict[str, Seen], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Let agents act, and see what has become of it; one whose task is done leaves, one that is given no action does nothing."""
        episode = self.episode
        episode.play({name: actions[name] for name in self.agents if name in actions})
        over = {name: episode.over or episode.seats[name].done for name in self.agents}
        rewards = {name: episode.seats[name].reward() for name in self.agents}
        answer = self._seen(), rewards, over, dict.fromkeys(self.agents, False), self._told()
        self.agents = [name for name in self.agents if not over[name]]
        return answer

    def _seen(self) -> dict[str, Seen]:
        return {name: self.episode.observation(name) for name in self.agents}

    def _told(self) -> dict[str, dict[str, Any]]:
        return {name: self.episode.info(name) for name in self.agents}
