"""FCN traders: each expects a return made up of a fundamental, a chartist and a noise part, and rests an order near the price it expects.

The model of Chiarella and Iori (2002, Quantitative Finance 2:346). They trade because they disagree: who expects a rise bids, who
expects a fall offers, and how far from the market depends on how sure each wants to be of a gain. A trader with weights F, C and N, the
window tau and the time of reversion tau_F expects over its window the return

    r = tau (F ln(v / p) / tau_F + C ln(p / p_tau) / tau + N noise z) / (F + C + N),    z standard normal,

where p is the mid now, p_tau the mid a window ago (before the run it stood still) and v the fundamental value; it expects the price
p' = p exp(r). If r > 0 it bids at p' (1 - k), if r < 0 it offers at p' (1 + k), k being its margin, and the order ends with its window. The
weights are exponential as in Chiarella, Iori and Perello (2009, Journal of Economic Dynamics and Control 33:525). One compiled pass
decides for all accounts.
"""

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numba import njit
from pydantic import Field, model_validator

from abm.agents.base import Numbers, Population, TraderConfig, trader
from abm.agents.view import View
from abm.clock import Seconds
from abm.exchange.messages import MESSAGE, Kind, Reason, Records, Side, TimeInForce

AGENT = np.dtype(
    [
        ("fundamental", np.float64),  # of ln(v / p), in the return expected over the window
        ("chart", np.float64),  # of the log return over the last window
        ("noise", np.float64),  # of a standard normal draw
        ("margin", np.float64),  # fraction of the expected price
        ("window", np.int64),  # steps
    ],
    align=True,
)
_LIMIT, _GTD, _BUY, _SELL = int(Kind.LIMIT), int(TimeInForce.GTD), int(Side.BUY), int(Side.SELL)
_VALUE, _TREND, _NOISE = int(Reason.VALUE), int(Reason.TREND), int(Reason.NOISE)


@njit(cache=True)
def orders(
    agents: Records,
    out: Records,
    order: npt.NDArray[np.int64],
    uniform: npt.NDArray[np.float64],
    normal: npt.NDArray[np.float64],
    mids: npt.NDArray[np.float64],
    value: float,
    normal_margin: bool,
    first: int,
    instrument: int,
    tick: float,
    lots: int,
    max_tick: int,
    now: int,
    step_ns: int,
) -> int:
    """What some accounts send, written to `out`, in an order drawn anew.

    Args:
        agents: One `AGENT` record for each account.
        out: Room for a message of each account that decides.
        order: A permutation of the accounts; changed.
        uniform: A draw for each account that decides; they say which these are, and in what order.
        normal: As many standard normal draws, and with `normal_margin` as many more.
        mids: Mid prices in currency, one a step, the latest last; at least one.
        value: Fundamental value in currency.
        normal_margin: Whether prices lie `margin` times a normal draw from the expected price, or `margin` on the safe side of it.
        first: The population's first account.
        instrument: Number of the instrument.
        tick: Smallest price step in currency.
        lots: Size of each order.
        max_tick: Highest price in ticks.
        now: Time in ns.
        step_ns: Length of a step in ns.

    Returns:
        How many messages are written.
    """
    mid = mids[-1]
    mispricing = math.log(value / mid)
    n = 0
    for i in range(len(uniform)):
        j = i + int(uniform[i] * (len(order) - i))
        who = order[j]
        order[j], order[i] = order[i], who
        agent = agents[who]
        back = min(agent.window, len(mids) - 1)
        f = agent.fundamental * mispricing
        c = agent.chart * math.log(mid / mids[len(mids) - 1 - back])
        z = agent.noise * normal[i]
        expected = f + c + z
        if expected == 0.0:
            continue
        buys = expected > 0.0
        if normal_margin:
            away = agent.margin * normal[len(uniform) + i]
        else:
            away = -agent.margin if buys else agent.margin
        ticks = mid * math.exp(expected) * (1.0 + away) / tick
        # A millionth of a tick forgives the float's last digits.
        ticks = math.floor(ticks + 1e-6) if buys else math.ceil(ticks - 1e-6)
        m = out[n]
        m.time, m.display, m.order, m.trigger, m.flags, m.self_trade = 0, 0, 0, 0, 0, 0
        m.kind, m.instrument, m.owner, m.side = _LIMIT, instrument, first + who, _BUY if buys else _SELL
        m.price, m.quantity = np.int32(min(max(ticks, 1.0), float(max_tick))), lots
        m.tif, m.expiry = _GTD, now + agent.window * step_ns
        m.reason = _NOISE
        if abs(f) >= abs(c) and abs(f) >= abs(z):
            m.reason = _VALUE
        elif abs(c) >= abs(z):
            m.reason = _TREND
        n += 1
    return n


class FcnConfig(TraderConfig):
    """FCN traders."""

    accounts: int = Field(100, ge=0, le=10_000_000, description="accounts", examples=[1000])
    every: Seconds = Field(
        10.0,
        gt=0,
        description="mean time between two orders of an account; of at most a step: one a step",
        examples=["10s"],
    )
    fundamental: float = Field(1.0, ge=0, description="mean of the exponential weight of the value", examples=[1])
    chart: float = Field(0.5, ge=0, description="mean of the exponential weight of the trend", examples=[0.5])
    noise: float = Field(1.0, ge=0, description="mean of the exponential weight of chance", examples=[1])
    noise_scale: float = Field(
        1e-5, ge=0, le=1, description="standard deviation of the return a second that chance suggests", examples=[0.001]
    )
    window: tuple[Seconds, Seconds] = Field(
        (100.0, 200.0),
        description="least and greatest window, over which a trader looks back and ahead and for which its orders stay",
        examples=[["100s", "200s"]],
    )
    reversion: tuple[Seconds, Seconds] | None = Field(
        None,
        description="least and greatest time in which the price is expected to return to the value; none = the window",
        examples=[["10min", "1h"]],
    )
    margin: tuple[float, float] = Field(
        (0.0, 0.002), description="least and greatest margin, as fractions of the expected price", examples=[[0, 0.1]]
    )
    margin_type: Literal["fixed", "normal"] = Field(
        "fixed",
        description="fixed: bids are the margin below the expected price, offers above; normal: prices are normal around it",
    )
    size: float = Field(0.01, gt=0, description="coins or shares of each order", examples=[0.01])
    cash: float = Field(50_000.0, ge=0, description="currency an account starts with", examples=[50_000])
    coins: float = Field(0.7, ge=0, description="coins or shares an account starts with", examples=[0.7])

    @model_validator(mode="after")
    def _ranges(self) -> "FcnConfig":
        for name, lowest in (("window", 0.0), ("reversion", 0.0), ("margin", -1.0)):
            least, greatest = getattr(self, name) or (1.0, 1.0)
            if not lowest < least <= greatest or (name == "margin" and not 0 <= least <= greatest < 1):
                raise ValueError(
                    f"{name} must be two numbers, the smaller first; times above 0, margins from 0 to below 1"
                )
        if self.fundamental + self.chart + self.noise <= 0:
            raise ValueError("fundamental, chart and noise must not all be 0")
        return self


@trader("fcn")
class FcnTraders(Population):
    """Fundamentalists, chartists and noise traders in one: who expects a rise bids, who expects a fall offers."""

    config: FcnConfig

    def setup(self) -> None:
        """Draw each account's weights, window and margin."""
        c, n, clock = self.config, self.size, self.model.scenario.clock
        instrument = self.model.scenario.instruments[c.instrument]

        def uniform(purpose: str, least: float, greatest: float) -> npt.NDArray[np.float64]:
            return least + (greatest - least) * self.random(purpose).random(n)

        f, ch, z = (
            mean * self.random(purpose).exponential(1.0, n)
            for purpose, mean in (("fundamental", c.fundamental), ("chart", c.chart), ("noise weight", c.noise))
        )
        window = uniform("window", *c.window)
        # As in the paper a trader looks ahead as far as it looks back, so that its window cancels where it expects a return in just that time.
        reversion = window if c.reversion is None else uniform("reversion", *c.reversion)
        total = np.maximum(f + ch + z, np.finfo(float).tiny)
        self._agents = agents = np.zeros(n, AGENT)
        agents["window"] = np.maximum(np.round(window / clock.step), 1)
        agents["fundamental"] = f / total * window / reversion
        agents["chart"] = ch / total
        agents["noise"] = z / total * window * c.noise_scale
        agents["margin"] = uniform("margin", *c.margin)
        self._order = np.arange(n)
        self._out = np.zeros(n, MESSAGE)
        self._lots = instrument.lots(c.size)
        self._furthest = float(agents["window"].max(initial=1)) * clock.step
        share = min(1.0, clock.step / c.every)
        number, who, chance = self.random("number"), self.random("who"), self.random("chance")
        self._number = self.block(lambda k: number.binomial(n, share, k))
        self._who = self.block(who.random, max(8192, 8 * n))
        self._chance = self.block(chance.standard_normal, max(8192, 16 * n))
        self.every_step = self._lots > 0

    def endow(self) -> tuple[Numbers, Numbers]:
        """The same for each account."""
        return self.config.cash, self.config.coins

    def decide(self, view: View) -> Records | None:
        """Limit orders of the accounts whose turn it is."""
        k = int(self._number.take(1)[0])
        if k == 0:
            return None
        c, clock = self.config, self.model.scenario.clock
        book = view[c.instrument]
        normal_margin = c.margin_type == "normal"
        n: Any = orders(
            self._agents,
            self._out,
            self._order,
            self._who.take(k),
            self._chance.take(k * (1 + normal_margin)),
            book.mids(self._furthest),
            self.model.fundamental(c.instrument),
            normal_margin,
            self.first,
            book.index,
            book.instrument.tick,
            self._lots,
            book.instrument.n_ticks - 1,
            view.time_ns,
            clock.step_ns,
        )
        return self._out[:n]
