"""Spread and diffusion of the mid where all orders come at random, on real books. The README says how and why so."""

from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit
from pydantic import Field, model_validator

from abm.agents.zero_intelligence import OrderFlow, ZeroIntelligenceConfig
from abm.exchange import Exchange, Instrument
from abm.random import stream
from experiments.papers import Estimate, Measured, Parameters, Progress

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

AT_ONCE = 500
"""Books of one exchange."""
LOOKS = 50
"""Times that the mid is looked at within the late lag."""

AGAINST, DISTURBED = "directions that do not hold", "books that ran out of orders or of prices"


class Config(Parameters):
    """Rates of the model and how long it is watched."""

    QUICK_RUNS: ClassVar[int] = 24

    runs: int = Field(2000, ge=2, le=1_000_000, description="books at each epsilon and tick")
    epsilons: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.02, 0.05, 0.1, 0.2), min_length=1, description="granularity 2 delta sigma / mu, rising"
    )
    ticks: tuple[Annotated[float, Field(gt=0, le=0.5)], ...] = Field(
        (0.005, 0.02), min_length=1, description="ticks in p_c, rising; diffusion is measured at the last"
    )
    alpha: float = Field(1.0, gt=0, description="limit orders of one side: units per price and time")
    mu: float = Field(2.0, gt=0, description="market orders of both sides: units per time")
    sigma: int = Field(1, ge=1, le=1000, description="units of each order")
    reach: float = Field(6.0, gt=0, le=100, description="limit orders come no further from the opposite quote, in p_c")
    room: float = Field(30.0, gt=0, le=1000, description="prices on either side of the first, in p_c")
    burn: float = Field(4.0, ge=0, le=1000, description="time before anything is measured, in 1 / delta")
    duration: float = Field(15.0, gt=0, le=10_000, description="time of the measurement, in 1 / delta")
    early: float = Field(0.02, gt=0, description="short lag of the diffusion, in units of time")
    late: float = Field(5.0, gt=0, description="long lag of the diffusion, in 1 / delta")

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        for key in ("epsilons", "ticks"):
            if any(one >= other for one, other in pairwise(getattr(self, key))):
                raise ValueError(f"{key} must rise")
        if self.late >= self.duration:
            raise ValueError("late must be shorter than duration")
        if self.early >= self.late / self.delta(self.epsilons[-1]) / LOOKS:
            raise ValueError(f"early must be shorter than late / {LOOKS}; lower it, or the last of epsilons")
        if self.reach >= self.room:
            raise ValueError("reach must be less than room")
        return self

    @property
    def price(self) -> float:
        """The characteristic price p_c = mu / 2 alpha."""
        return self.mu / (2.0 * self.alpha)

    def delta(self, epsilon: float) -> float:
        """Rate at which each order is cancelled: epsilon = 2 delta sigma / mu."""
        return epsilon * self.mu / (2.0 * self.sigma)

    def traders(self, epsilon: float, tick: float) -> ZeroIntelligenceConfig:
        """The paper's traders as a configuration of ours: one rate over one wide step."""
        return ZeroIntelligenceConfig(
            limit_orders=(self.alpha * self.reach * self.price / self.sigma,),
            tail=None,
            market_orders=self.mu / 2.0 / self.sigma,
            cancellations=(self.delta(epsilon),),
            step_ticks=round(self.reach / tick),
        )


def mean_field(epsilon: float) -> float:
    """The spread in units of mu / alpha by the formula fitted to mean-field theory, .28 + 1.86 (epsilon / 2)^(3/4)."""
    return float(0.28 + 1.86 * (epsilon / 2.0) ** 0.75)


# ---------------------------------------------------------------------------------------------------------- measurement


def measure(config: Config, progress: Progress) -> Measured:
    """All estimates; what is drawn are those of the spread by tick and epsilon, and of early and late diffusion by epsilon."""
    cells = [(tick, epsilon) for tick in config.ticks for epsilon in config.epsilons]
    found: dict[tuple[float, float], Watched] = {}
    for done, (tick, epsilon) in enumerate(cells):
        found[tick, epsilon] = watch(
            config, epsilon, tick, lambda n, done=done: progress(done * config.runs + n, len(cells) * config.runs)
        )
    estimates = {f"spread at epsilon {e:g}, tick {t:g}": found[t, e].spread for t, e in cells}
    last = {epsilon: found[config.ticks[-1], epsilon] for epsilon in config.epsilons}
    for epsilon in config.epsilons:
        estimates[f"spread at epsilon {epsilon:g}, mean field"] = found[config.ticks[0], epsilon].spread
        estimates[f"early diffusion at epsilon {epsilon:g}"] = last[epsilon].early
        estimates[f"late diffusion at epsilon {epsilon:g}"] = last[epsilon].late
    estimates[AGAINST] = Estimate(_against(config, found))
    estimates[DISTURBED] = Estimate(sum(each.disturbed for each in found.values()))
    return Measured(estimates, found)


def _against(config: Config, found: Mapping[tuple[float, float], "Watched"]) -> int:
    """How often the spread or, over all, late diffusion does not grow with epsilon, or early diffusion is not above the late one."""
    against = 0
    for tick in config.ticks:
        spreads = [found[tick, epsilon].spread.value for epsilon in config.epsilons]
        against += sum(one >= other for one, other in pairwise(spreads))
    last = [found[config.ticks[-1], epsilon] for epsilon in config.epsilons]
    against += sum(each.early.value <= each.late.value for each in last)
    return against + (len(last) > 1 and last[0].late.value >= last[-1].late.value)


class Watched(NamedTuple):
    """What the books of one epsilon and tick came to: spread in mu / alpha, diffusion in p_c^2 delta, and how many were disturbed."""

    spread: Estimate
    early: Estimate
    late: Estimate
    disturbed: int


def watch(config: Config, epsilon: float, tick: float, progress: Callable[[int], None] = lambda _: None) -> Watched:
    """Let as many books as there are runs go on for `burn` and `duration`.

    Args:
        config: Parameters.
        epsilon: Granularity.
        tick: In p_c.
        progress: Called with the books that are done.
    """
    delta = config.delta(epsilon)
    gap = config.late / delta / LOOKS
    looks = np.arange(config.burn / delta, (config.burn + config.duration) / delta - config.early, gap)
    times = np.stack((looks, looks + config.early), axis=1).reshape(-1)
    parts: list[tuple[Floats, Floats, int]] = []
    for start in range(0, config.runs, AT_ONCE):
        count = min(AT_ONCE, config.runs - start)
        rng = stream(config.seed, f"epsilon {epsilon:g} tick {tick:g}", f"books from {start}")
        parts.append(_books(config, epsilon, tick, times, count, rng))
        progress(start + count)
    spreads, mids = (np.concatenate(each) * tick for each in list(zip(*parts, strict=True))[:2])  # in p_c
    at, soon = mids[:, ::2], mids[:, 1::2]
    early = ((soon - at) ** 2).mean(axis=1) / (config.early * delta)
    late = ((at[:, LOOKS:] - at[:, :-LOOKS]) ** 2).mean(axis=1) / config.late
    return Watched(
        Estimate.mean(spreads / 2.0), Estimate.mean(early), Estimate.mean(late), sum(wrong for _, _, wrong in parts)
    )


def _books(
    config: Config, epsilon: float, tick: float, times: Floats, count: int, rng: np.random.Generator
) -> tuple[Floats, Floats, int]:
    """Mean spread of each book from the first to the last of `times`, its mids at these times, both in ticks, and books disturbed."""
    half = round(config.room / tick)
    exchange = Exchange(_instruments(count, 2 * half))
    books = np.arange(count)
    flow = OrderFlow(config.traders(epsilon, tick).rates(config.sigma, 2 * half), books, books, half)
    begin, end, clock = times[0], times[-1], np.zeros(count)
    bid, ask = flow.books["bid"], flow.books["ask"]
    area, mids, seen = np.zeros(count), np.zeros((count, len(times))), np.zeros(count, np.int64)
    disturbed = np.zeros(count, np.bool_)
    margin = round(config.reach / tick)
    while clock.min() < end:
        mid, spread = (bid + ask) / 2.0, ask - bid  # these hold until the next event
        events = flow.act(books, np.inf, rng.random((count, 1, 3)), exchange.take_ids(count))
        passed = flow.books["clock"].copy()
        area += spread * np.maximum(0.0, np.minimum(passed, end) - np.maximum(clock, begin))
        _look(times, seen, mids, passed, mid)
        clock = passed
        exchange.match(events)
        quotes = exchange.view()
        flow.quote(quotes.best_bid, quotes.best_ask)
        empty = (quotes.best_bid == 0) | (quotes.best_ask == 0)
        disturbed |= (clock > begin) & (clock < end) & (empty | (bid <= margin) | (ask >= 2 * half - margin))
    return area / (end - begin), mids, int(disturbed.sum())


@njit(cache=True)
def _look(times: Floats, seen: Ints, mids: Floats, clock: Floats, mid: Floats) -> None:
    """Write down the mid of each book at those times that its clock has passed."""
    for b in range(len(clock)):
        while seen[b] < len(times) and times[seen[b]] <= clock[b]:
            mids[b, seen[b]] = mid[b]
            seen[b] += 1


@cache
def _instruments(count: int, n_ticks: int) -> tuple[Instrument, ...]:
    return tuple(
        Instrument(name=f"book-{number}", kind="perpetual", tick=1, lot=1, max_price=n_ticks) for number in range(count)
    )
