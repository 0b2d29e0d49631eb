"""The mining network: blocks come as the hashrate finds them, and the difficulty follows the hashrate. No trader decides it.

MECHANICS 3. A try succeeds with probability 1 / (D 2^32), so that blocks are a Poisson process; each 2016 blocks the difficulty D is set
anew so that they would have taken two weeks (Nakamoto 2008).
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from mesa.time import Event, Priority
from pydantic import Field

from abm.clock import Seconds
from abm.exchange.description import Frozen

if TYPE_CHECKING:
    from abm.market import Market

DAY = 86400.0
EPOCH = 2016
"""Blocks between two retargets."""
_TRIES = 2.0**32  # for a block at difficulty 1, on average


def hashprice(price: float, difficulty: float, subsidy: float = 3.125, fees: float = 0.01) -> float:
    """Revenue of a unit of hashrate in USD/PH/s/day.

    Args:
        price: USD per coin.
        difficulty: Difficulty of the network.
        subsidy: Coins per block.
        fees: Transaction fees as a fraction of the subsidy.
    """
    return DAY * 1e15 / (difficulty * _TRIES) * subsidy * (1.0 + fees) * price


def break_even[T: (float, npt.NDArray[np.float64])](efficiency: T, power: T) -> T:
    """Hashprice in USD/PH/s/day that pays for power, 24 e c: a J/TH is a kW for each PH/s.

    Args:
        efficiency: e, J/TH.
        power: c, USD/kWh.
    """
    return 24.0 * efficiency * power


def implied_hashrate(difficulty: float, interval: float = 600.0) -> float:
    """Hashrate in EH/s that finds a block each `interval` seconds: D 2^32 / interval."""
    return difficulty * _TRIES / interval / 1e18


def retargeted(difficulty: float, actual: float, interval: float = 600.0) -> float:
    """The next difficulty: D clamp(target / actual, 1/4, 4).

    Args:
        difficulty: D.
        actual: Seconds that the last 2016 blocks took.
        interval: Target time between blocks in seconds.
    """
    return difficulty * min(max(EPOCH * interval / actual, 0.25), 4.0)


class Mining(Frozen):
    """The network as a run begins."""

    difficulty: float = Field(141.67e12, gt=0, description="difficulty of the network", examples=[141.67e12])
    subsidy: float = Field(3.125, ge=0, description="new coins per block", examples=[3.125])
    fees: float = Field(0.01, ge=0, le=10, description="transaction fees as a fraction of the subsidy", examples=[0.01])
    block_interval: Seconds = Field(600.0, gt=0, description="target time between blocks", examples=["10min"])
    epoch_blocks: int = Field(
        0, ge=0, lt=EPOCH, description="blocks since the last retarget, found at the pace of the start", examples=[1800]
    )


class MiningNetwork:
    """Blocks and difficulty of one run. A block is one scheduled event, however many miners share it."""

    def __init__(self, market: "Market", terms: Mining, hashrate: float, draws: np.random.Generator) -> None:
        """Wait for the first block.

        Args:
            market: Whose events the blocks are.
            terms: The network as the run begins.
            hashrate: EH/s that are on.
            draws: Decides when blocks are found.
        """
        self._market, self._terms, self._draws = market, terms, draws
        self.difficulty = terms.difficulty
        """Difficulty now."""
        self.blocks = 0
        """Blocks found in the run."""
        self.coins_per_ehs = 0.0
        """Subsidy and fees that an EH/s which was always on has earned in the run, in coins."""
        self._hashrate = hashrate
        self._epoch_blocks = terms.epoch_blocks
        self._epoch_began = self._now
        if hashrate > 0:
            self._epoch_began -= terms.epoch_blocks * terms.block_interval / self.pace
        self._work = draws.exponential()  # left until the next block, in units of what a block takes on average
        self._worked_until = self._now
        self._next: Event | None = None
        self._await_block()
        market.streams.keep(self)

    @property
    def _now(self) -> float:
        """Seconds since the start of the run, between two steps too."""
        return float(self._market.time * self._market.scenario.clock.step)

    @property
    def hashrate(self) -> float:
        """EH/s that are on."""
        return self._hashrate

    @hashrate.setter
    def hashrate(self, ehs: float) -> None:
        now = self._now
        self._work = max(self._work - (now - self._worked_until) / self._terms.block_interval * self.pace, 0.0)
        self._worked_until = now
        self._hashrate = ehs
        self._await_block()

    @property
    def pace(self) -> float:
        """Blocks found for each that the target asks for, on average."""
        return self._hashrate / implied_hashrate(self.difficulty, self._terms.block_interval)

    @property
    def expected_change(self) -> float:
        """Change of the difficulty at the next retarget if the hashrate stays as it is, as a fraction."""
        if self._hashrate <= 0:
            return -0.75
        left = (EPOCH - self._epoch_blocks) * self._terms.block_interval / self.pace
        actual = self._now - self._epoch_began + left
        return retargeted(1.0, actual, self._terms.block_interval) - 1.0

    def hashprice(self, price: float) -> float:
        """Revenue of a unit of hashrate in USD/PH/s/day at a price of the coin in USD."""
        return hashprice(price, self.difficulty, self._terms.subsidy, self._terms.fees)

    def _await_block(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._hashrate > 0:
            after = self._market.scenario.clock.units(self._work * self._terms.block_interval / self.pace)
            self._next = self._market.schedule_event(self._find_block, after=after, priority=Priority.LOW)

    def redraw(self, now: float) -> None:
        """Have the next block found at another time; what was worked for it so far says nothing of that."""
        self._work, self._worked_until = self._draws.exponential(), now
        self._await_block()

    def _find_block(self) -> None:
        self.blocks += 1
        self.coins_per_ehs += self._terms.subsidy * (1.0 + self._terms.fees) / self._hashrate
        self._epoch_blocks += 1
        if self._epoch_blocks == EPOCH:
            self.difficulty = retargeted(self.difficulty, self._now - self._epoch_began, self._terms.block_interval)
            self._epoch_blocks, self._epoch_began = 0, self._now
        self._work, self._worked_until = self._draws.exponential(), self._now
        self._await_block()
