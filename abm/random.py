"""Named, independent random streams.

A stream is a hash of (seed, trader's name, purpose). A trader that joins or leaves therefore changes nobody else's draws, and two
scenarios can be compared under common random numbers. Where a run branches off, each stream goes on as another one, a hash of (seed of the
branch, name, purpose, "branch").
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from numba import njit


def stream(seed: int, name: str, purpose: str, *more: str) -> np.random.Generator:
    """The random stream of one purpose of one trader.

    Args:
        seed: Seed of the run.
        name: Name of the trader (its key in the scenario), or of another part of the market.
        purpose: What the numbers decide, such as `"side"`.
        *more: What else tells it from others.

    Returns:
        A PCG64 generator that starts at the same place for the same arguments.
    """
    digest = hashlib.sha256("\0".join((str(seed), name, purpose, *more)).encode()).digest()
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int.from_bytes(digest, "little"))))


_BRANCH = ("branch",)


class DrawnAhead(Protocol):
    """What has been drawn from streams before it is needed."""

    def redraw(self, now: float) -> None:
        """Draw anew what is for later than `now` (seconds since the start of the run)."""


class Streams:
    """All random streams of one run. Where it branches off they go on as those of another seed: what was drawn by then stays as it is."""

    def __init__(self, seed: int) -> None:
        """Begin with the streams of a seed."""
        self._seed = seed
        self._more: tuple[str, ...] = ()
        self._given: list[tuple[str, str, np.random.Generator]] = []
        self.ahead: list[DrawnAhead] = []
        """What is drawn anew where the run branches off."""

    def of(self, name: str, purpose: str) -> np.random.Generator:
        """The stream of one purpose of one trader, or of another part of the market."""
        rng = stream(self._seed, name, purpose, *self._more)
        self._given.append((name, purpose, rng))
        return rng

    def keep[T: DrawnAhead](self, drawn: T) -> T:
        """Have something that was drawn ahead from these streams drawn anew where the run branches off."""
        self.ahead.append(drawn)
        return drawn

    def branch(self, seed: int, now: float) -> None:
        """Let every stream go on as that of a branch.

        Args:
            seed: Of the branch.
            now: Seconds since the start of the run.
        """
        self._seed, self._more = seed, _BRANCH
        for name, purpose, rng in self._given:
            rng.bit_generator.state = stream(seed, name, purpose, *_BRANCH).bit_generator.state
        for drawn in self.ahead:
            drawn.redraw(now)


@dataclass(frozen=True)
class Fork:
    """Where, and with which seed, a run branches off."""

    step: int
    seed: int


def spliced(
    draw: Callable[[Callable[[str], np.random.Generator]], npt.NDArray[np.float64]],
    seed: int,
    name: str,
    fork: Fork | None = None,
) -> npt.NDArray[np.float64]:
    """What is drawn at once for all steps of a run: as without a branch before the step of a fork, and from there on by its streams.

    Args:
        draw: Draws one number for each step, from streams that it is given by their purpose.
        seed: Of the run.
        name: That keys the streams.
        fork: Where the run branches off, if it does.
    """
    drawn = draw(lambda purpose: stream(seed, name, purpose))
    if fork is not None:
        after = draw(lambda purpose: stream(fork.seed, name, purpose, *_BRANCH))
        drawn[fork.step :] = after[fork.step :]
    return drawn


type Draws = npt.NDArray[Any] | tuple[npt.NDArray[Any], ...]


class Block[D: Draws]:
    """Draws taken a few at a time from a stream that is drawn in large blocks, since small draws cost a call each.

    What is taken does not depend on how many are taken at once.
    """

    def __init__(self, draw: Callable[[int], D], size: int = 8192) -> None:
        """Draw from a function of the number of draws, such as `lambda n: rng.exponential(2.0, n)`; it may give several arrays at once."""
        self._draw = draw
        self._size = size
        self._drawn: Any = draw(size)
        self._at, self._end = 0, size

    def redraw(self, _now: float = 0.0) -> None:
        """Drop what nobody has taken yet."""
        self._at = self._end

    def take(self, n: int) -> D:
        """The next n draws; not to be written to."""
        while self._at + n > self._end:
            left, more = self._part(self._at, self._end), self._draw(self._size)
            self._drawn = (
                tuple(map(np.concatenate, zip(left, more, strict=True)))
                if isinstance(left, tuple)
                else np.concatenate((left, more))
            )
            self._at, self._end = 0, self._end - self._at + self._size
        self._at += n
        taken: D = self._part(self._at - n, self._at)
        return taken

    def _part(self, start: int, end: int) -> Any:
        drawn = self._drawn
        return tuple([column[start:end] for column in drawn]) if isinstance(drawn, tuple) else drawn[start:end]


@njit(cache=True)
def _due(times: npt.NDArray[np.float64], now: float, found: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Places of the times up to `now`; `found` has room for all."""
    n = 0
    for k in range(len(times)):
        found[n] = k
        n += times[k] <= now  # without a branch, since who comes is chance
    return found[:n].copy()


class Wakeups:
    """Times at which each of many accounts looks at the market: a Poisson process for each."""

    def __init__(self, rng: np.random.Generator, accounts: int, mean: float) -> None:
        """Let each account look every `mean` seconds on average, from 0 on."""
        self._rng = rng
        self._mean = mean
        self._next = rng.exponential(mean, accounts)
        self._found = np.empty(accounts, np.int64)

    def due(self, now: float) -> npt.NDArray[np.int64]:
        """Accounts whose time has come at `now` (seconds); each is given its next."""
        who: npt.NDArray[np.int64] = _due(self._next, now, self._found)
        self._next[who] = now + self._rng.exponential(self._mean, len(who))
        return who

    def redraw(self, now: float) -> None:
        """Draw the times after `now` (seconds) anew: whenever that is, the time to the next look has the same law."""
        later = np.flatnonzero(self._next > now)
        self._next[later] = now + self._rng.exponential(self._mean, len(later))
