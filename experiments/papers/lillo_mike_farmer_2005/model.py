"""Memory of the signs of trades that order splitting leaves, measured on the exchange's trades. The README says how and why so."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import zeta

from abm.agents.splitters import HiddenOrders
from abm.exchange import ANONYMOUS, MESSAGE, Exchange, Instrument, Kind, Side, TimeInForce
from abm.exchange.messages import Records
from abm.random import stream
from experiments.papers import Estimate, Measured, Parameters, Progress

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TAPE = 100_000
"""Messages that are matched at once."""
LAGS_SHOWN = (1, 10, 100)
FURTHEST = 50_000
"""Greatest lag; the closed form costs its square."""
UNTRADED = "orders that did not trade their lot"


class Config(Parameters):
    """The hidden orders, and what is asked of the signs of their trades."""

    QUICK_RUNS: ClassVar[int] = 4

    runs: int = Field(200, ge=2, le=100_000, description="stretches of trades, one after the other, at each alpha")
    stretch: int = Field(1_000_000, ge=1000, le=20_000_000, description="trades of a stretch")
    alphas: tuple[Annotated[float, Field(gt=1, le=5)], ...] = Field(
        (1.3, 1.5, 1.7), min_length=1, description="tail exponents of the lengths of hidden orders"
    )
    hidden: int = Field(20, ge=1, le=100_000, description="hidden orders at any time")
    lags: tuple[int, int] = Field((200, 10_000), description="first and last lag of the fit")
    bins: int = Field(12, ge=2, le=1000, description="groups of lags, evenly spaced in their logarithm, of the fit")

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        first, last = self.lags
        if not max(LAGS_SHOWN) < first < last <= min(self.stretch // 10, FURTHEST):
            raise ValueError(
                f"lags must lie above {max(LAGS_SHOWN)}, the smaller first, up to {FURTHEST} and a tenth of stretch"
            )
        if len(self.groups) < self.bins:
            raise ValueError("bins: there are not as many lags; lower it")
        return self

    @property
    def groups(self) -> list[Ints]:
        """The lags of each group."""
        first, last = self.lags
        edges = np.unique(np.geomspace(first, last + 1, self.bins + 1).round().astype(np.int64))
        return [np.arange(low, high) for low, high in pairwise(edges)]


# ---------------------------------------------------------------------------------------------------------- closed form


def autocorrelation(furthest: int, alpha: float, hidden: int) -> Floats:
    """Autocorrelation of the signs in the stationary state, at lags 0 to `furthest`.

    Two trades have the same hidden order if the later one falls to it, with probability 1 / N, and if its pieces have not run out in between:
    C(t) = (1/N) E[P(left > K)] with K ~ Binomial(t - 1, 1/N). What is left of an order that has just traded has
    P(left > k) = sum_(j > k) P(length > j) / E[length] = zeta(alpha, k + 1) / (1 + zeta(alpha)), as P(length > j) = j^-alpha (renewal theory).
    Trades of different orders are independent.
    """
    acf = np.ones(furthest + 1)
    left = zeta(alpha, np.arange(1.0, furthest + 1.0)) / (1.0 + zeta(alpha))
    for lag in range(1, furthest + 1):
        acf[lag] = left[0] / hidden
        left = left[:-1] + (left[1:] - left[:-1]) / hidden  # one more trade in between, perhaps of this order
    return acf


def exponent(config: Config, acf: Floats) -> float:
    """The gamma of lag^-gamma: minus the slope of the logarithm of the mean over each group of lags, on its mean logarithm."""
    means = np.array([acf[group].mean() for group in config.groups])
    if (means <= 0).any():
        return float("nan")
    return -float(np.polyfit([np.log(group).mean() for group in config.groups], np.log(means), 1)[0])


def exact(config: Config) -> Mapping[str, float]:
    """Exponent and first values of the stationary autocorrelation."""
    found: dict[str, float] = {}
    for alpha in config.alphas:
        acf = autocorrelation(config.lags[1], alpha, config.hidden)
        found[f"gamma at alpha {alpha:g}, closed form"] = exponent(config, acf)
        found |= {f"autocorrelation at lag {lag}, alpha {alpha:g}": float(acf[lag]) for lag in LAGS_SHOWN}
    return found | {UNTRADED: 0.0}


# ---------------------------------------------------------------------------------------------------------- measurement


def measure(config: Config, progress: Progress) -> Measured:
    """All estimates; what is drawn is the autocorrelation at each lag, by alpha."""
    estimates: dict[str, Estimate] = {}
    drawn: dict[float, Floats] = {}
    untraded, done = 0, 0
    for alpha in config.alphas:
        found: list[Floats] = []
        for signs, missing in stretches(config, alpha):
            found.append(correlated(signs, config.lags[1]))
            untraded += missing
            done += 1
            progress(done, len(config.alphas) * config.runs)
        acf = np.array(found)
        drawn[alpha] = acf.mean(axis=0)
        gamma = Estimate(exponent(config, drawn[alpha]), _jackknife(config, acf))
        estimates[f"gamma at alpha {alpha:g}"] = estimates[f"gamma at alpha {alpha:g}, closed form"] = gamma
        for lag in LAGS_SHOWN:
            estimates[f"autocorrelation at lag {lag}, alpha {alpha:g}"] = Estimate.mean(acf[:, lag])
    return Measured(estimates | {UNTRADED: Estimate(untraded)}, drawn)


def _jackknife(config: Config, acf: Floats) -> float:
    """Standard error of the exponent from leaving out one stretch after the other."""
    runs = len(acf)
    left_out = [exponent(config, each) for each in (acf.sum(axis=0) - acf) / (runs - 1)]
    return float(np.std(left_out) * np.sqrt(runs - 1))


def correlated(signs: Floats, furthest: int) -> Floats:
    """Mean product of signs at each lag from 0 to `furthest`; their mean is known to be 0."""
    size = next_fast_len(len(signs) + furthest, real=True)
    products: Floats = irfft(np.abs(rfft(signs, size)) ** 2, size)[: furthest + 1]
    return products / (len(signs) - np.arange(furthest + 1))


def stretches(config: Config, alpha: float) -> Iterator[tuple[Floats, int]]:
    """One stretch of trades after the other: the signs that the exchange reports, and how many orders did not trade their lot."""
    hidden = HiddenOrders(alpha, stream(config.seed, f"alpha {alpha:g}", "begin").random((config.hidden, 2)))
    luck = stream(config.seed, f"alpha {alpha:g}", "pieces")
    for _ in range(config.runs):
        exchange = _deep_book(config.stretch)
        signs: list[Floats] = []
        missing = 0
        for start in range(0, config.stretch, TAPE):
            _, side = hidden.trade(luck.random((min(TAPE, config.stretch - start), 3)))
            report = exchange.match(_orders(exchange, len(side), kind=Kind.MARKET, tif=TimeInForce.IOC, side=side))
            signs.append(1.0 - 2.0 * report.trades["aggressor"])
            missing += int((report.outcomes["filled"] != 1).sum())
        yield np.concatenate(signs), missing


def _deep_book(lots: int) -> Exchange:
    """A book that such a number of trades cannot use up: one bid and one offer."""
    exchange = Exchange([Instrument(name="book", kind="perpetual", tick=1, lot=1, max_price=4)])
    exchange.match(_orders(exchange, 2, side=[Side.BUY, Side.SELL], price=[1, 2], quantity=lots))
    return exchange


def _orders(exchange: Exchange, count: int, **fields: Any) -> Records:
    orders = np.zeros(count, MESSAGE)
    orders["owner"], orders["quantity"] = ANONYMOUS, 1
    orders["order"] = exchange.take_ids(count) + np.arange(count)
    for name, values in fields.items():
        orders[name] = values
    return orders
