"""Funds that hold several assets by rules of risk: what they lose on one they sell in others too.

They trade because a limit, a target or a lender makes them. Each population follows one style (MECHANICS 9):

- `leverage`: exposure L times equity, so that a return r makes a fund trade L (L - 1) r times the equity before it (Adrian and Shin 2010,
  Journal of Financial Intermediation 19:418).
- `value_at_risk`: L = v / (z sigma), so that a day's loss is worse than v of the equity only in the quantile z (Adrian and Shin 2014, Review of
  Financial Studies 27:373).
- `volatility`: exposure min(highest, target / sigma) times equity, sigma with an exponential memory of .94 (J.P. Morgan 1996, RiskMetrics).
- `risk_parity`: the same, each asset contributing as much to the variance (Maillard, Roncalli and Teiletche 2010, Journal of Portfolio
  Management 36(4):60).
- `pods`: books of a multi-manager fund, L times their capital, halved after one loss and closed after a larger one, for good.
"""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from abm.agents.base import Floats, trader
from abm.agents.portfolio import DAY, Portfolio, PortfolioConfig, volatility_weight
from abm.exchange.description import Frozen
from abm.exchange.messages import Reason
from abm.world.fundamental import YEAR


def value_at_risk_leverage(limit: float, volatility: float, z: float) -> float:
    """Leverage L = v / (z sigma) at which a loss beyond `limit` of the equity is beyond z standard deviations.

    Args:
        limit: v, fraction of the equity.
        volatility: sigma of the assets over the time that the limit speaks of, as a fraction.
        z: Quantile, in standard deviations; 2.33 is one case in a hundred of a normal distribution.
    """
    return limit / (z * volatility)


def risk_parity(covariance: Floats) -> Floats:
    """Weights, all above 0 and of sum 1, with which each asset contributes the same to the variance.

    They minimise x' C x / 2 - sum(ln x) / n, which is solved coordinate by coordinate (Griveau-Billion, Richard and Roncalli 2013,
    arXiv:1311.4057).

    Args:
        covariance: C, positive definite (n, n).
    """
    n = len(covariance)
    variance = np.diag(covariance)
    x = 1.0 / np.sqrt(variance * n)
    for _ in range(1000):
        before = x.copy()
        for i in range(n):
            others = covariance[i] @ x - variance[i] * x[i]
            x[i] = (math.sqrt(others**2 + 4.0 * variance[i] / n) - others) / (2.0 * variance[i])
        if np.abs(x - before).max() <= 1e-12 * x.max():
            break
    return np.asarray(x / x.sum())


def pod_scale(loss: Floats, halve_at: float, close_at: float) -> Floats:
    """Part of its book that a pod keeps after a loss (fraction of its capital): 1, one half, 0."""
    return np.where(loss >= close_at, 0.0, np.where(loss >= halve_at, 0.5, 1.0))


class Draw(Frozen):
    """Which assets a fund holds, where each has its own.

    A fund holds `assets` of the m there are, so that at crowding 0 each subset is as likely as any other, as in the random networks of Caccioli,
    Shrestha, Moore and Farmer (2014), Journal of Banking and Finance 46:233, but with as many links for each fund. The part `crowding` of them
    comes from the top of one list that all funds share, which leaves diversification as it is and makes portfolios alike: two funds have
    about c k + ((1 - c) k)^2 / (m - c k) of their k assets in common, from k^2 / m up to k.
    """

    assets: int = Field(ge=1, description="instruments that each fund holds: diversification, k", examples=[10])
    crowding: float = Field(
        0.0,
        ge=0,
        le=1,
        description="part of them that is taken from the common list, c; the others by lot",
        examples=[0.5],
    )
    common: tuple[str, ...] = Field(
        (),
        description="instruments at the top of the common list; those that follow are by lot",
        examples=[["btc-spot"]],
    )

    def unfit(self, names: tuple[str, ...]) -> str:
        """What does not fit the instruments that there are to draw from, in one line; empty if nothing."""
        if self.assets > len(names):
            return f"draw.assets: {self.assets} are more than the {len(names)} in weights; lower it"
        for name in self.common:
            if name not in names or self.common.count(name) > 1:
                return f"draw.common: {name} must stand once, and be one of weights; leave it out"
        return ""


def drawn(
    assets: int, common: npt.NDArray[np.int64], lots: Floats, share: Floats, crowding: float
) -> npt.NDArray[np.bool_]:
    """Which assets each of n funds holds, of m.

    Args:
        assets: How many, k.
        common: All assets in the order of the common list (m,).
        lots: Uniform draws (n, m); a fund takes the assets with its smallest.
        share: Uniform draws (n,), by which c k assets are a whole number, and as many on average.
        crowding: c.

    Returns:
        Shape (n, m), `assets` of them true in each row, which depends on the draws of its fund and on no other's.
    """
    taken = np.floor(crowding * assets + share)
    place = np.argsort(common)
    order = np.where(place < taken[:, None], place - len(common), lots)
    return np.asarray(order.argsort(axis=1).argsort(axis=1) < assets)


class MultiAssetConfig(PortfolioConfig):
    """Funds of one style."""

    accounts: int = Field(20, ge=0, le=1_000_000, description="funds", examples=[20])
    style: Literal["leverage", "value_at_risk", "volatility", "risk_parity", "pods"] = Field(
        "volatility", description="what sets the size of the portfolio"
    )
    weights: dict[str, float] = Field(
        default={},
        description="instruments and their weights, short where negative; none = all in `instrument`",
        examples=[{"btc-spot": 0.3, "ndx": 0.7}],
    )
    draw: Draw | None = Field(
        None,
        description="styles leverage and pods: how many of these, and which, each fund holds, in proportion to `weights`; none = all of them",
        examples=[{"assets": 10, "crowding": 0.5}],
    )
    leverage: tuple[float, float] = Field(
        (2.0, 4.0), description="styles leverage and pods: least and greatest leverage of a fund", examples=[[6, 8]]
    )
    limit: float = Field(
        0.02, gt=0, lt=1, description="style value_at_risk: loss in a day, fraction of the equity", examples=[0.02]
    )
    z: float = Field(2.33, gt=0, le=10, description="style value_at_risk: its quantile", examples=[2.33])
    target_volatility: float = Field(
        0.4, gt=0, le=5, description="styles volatility and risk_parity: a year", examples=[0.15]
    )
    highest: float = Field(
        1.5, gt=0, le=100, description="largest exposure of these three styles, in equity", examples=[1.5]
    )
    halve_at: float = Field(
        0.05, gt=0, lt=1, description="style pods: loss from the highest equity that halves the book", examples=[0.05]
    )
    close_at: float = Field(0.075, gt=0, le=1, description="style pods: loss that closes the book", examples=[0.075])
    elsewhere: float = Field(
        0.5,
        ge=0,
        le=1,
        description="part of the margin that a notice makes them lack which they raise by selling other assets",
        examples=[0.5],
    )
    constrained: float = Field(
        0.0, ge=0, le=1, description="share of funds that have no margin to spare when a notice comes", examples=[0.5]
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> "MultiAssetConfig":
        if not 0 < self.leverage[0] <= self.leverage[1]:
            raise ValueError("leverage must be two numbers above 0, the smaller first")
        if self.close_at < self.halve_at:
            raise ValueError("close_at must not be less than halve_at")
        if self.weights and not any(self.weights.values()):
            raise ValueError("weights must not all be 0")
        if self.style == "risk_parity" and min(self.weights.values(), default=1.0) <= 0:
            raise ValueError("weights: risk_parity holds nothing short; name instruments with weights above 0")
        if self.draw is not None and self.style not in ("leverage", "pods"):
            raise ValueError(f"draw: style {self.style} holds the same for all funds; write style: leverage, or pods")
        if self.draw is not None and (wrong := self.draw.unfit(tuple(n for n, w in self.weights.items() if w))):
            raise ValueError(wrong)
        return self

    @property
    def traded(self) -> tuple[str, ...]:
        """Names of the instruments it holds."""
        return tuple(self.weights) or (self.instrument,)


@trader("multi_asset_funds")
class MultiAssetFunds(Portfolio):
    """Funds that hold instruments in proportions, and as much of all of them as their style says."""

    channel = "common_holders"
    config: MultiAssetConfig

    def setup(self) -> None:
        """Draw each fund's leverage, and who has no margin to spare."""
        c, n = self.config, self.size
        weights = np.array(list(c.weights.values()) or [1.0])
        if c.draw is not None:
            weights = self._drawn(c.draw, weights)
        self.weights = weights / np.abs(weights).sum(axis=-1, keepdims=True)
        """Of the instruments in the portfolio, (m,), or of each fund's own, (n, m); short where negative, without sign of sum 1."""
        least, greatest = c.leverage
        self.leverage = least + (greatest - least) * self.random("leverage").random(n)
        """Of each fund, in styles that have one."""
        self.constrained = self.random("constrained").random(n) < c.constrained
        """Funds that must sell when margins rise."""
        self._kept = np.ones((n, len(c.traded)))
        self._notified = np.zeros((n, len(c.traded)), np.int64)  # aims for which a notice is why a position shrinks
        self._book = np.ones(n)  # what pods have left
        self._peak = np.zeros(n)
        super().setup()

    def _drawn(self, draw: Draw, weights: Floats) -> Floats:
        """Weights of each fund (n, m): those given, of what it holds."""
        some = np.flatnonzero(weights)
        names = [self.config.traded[j] for j in some]
        first = np.array([names.index(name) for name in draw.common], np.int64)
        rest = np.setdiff1d(np.arange(len(some)), first)
        common = np.concatenate((first, self.random("common").permutation(rest)))
        lots, share = self.random("holdings").random((self.size, len(some))), self.random("crowding").random(self.size)
        held = np.zeros((self.size, len(weights)))
        held[:, some] = drawn(draw.assets, common, lots, share, draw.crowding)
        return held * weights

    def exposures(self, equity: Floats) -> Floats:
        """Weights times what the style makes of the equity; less where a margin notice has made funds smaller."""
        c = self.config
        self._notified = np.maximum(self._notified - 1, 0)
        if c.style == "pods":
            size = self.leverage * self._pods(equity) * self.capital
            return np.asarray(size[:, None] * self.weights * self._kept)
        if c.style == "leverage":
            return np.asarray((self.leverage * equity)[:, None] * self.weights * self._kept)
        weights = risk_parity(self.covariance) if c.style == "risk_parity" else self.weights
        sigma = math.sqrt(weights @ self.covariance @ weights)
        if c.style == "value_at_risk":
            size = equity * min(c.highest, value_at_risk_leverage(c.limit, sigma * math.sqrt(DAY / YEAR), c.z))
        else:
            size = equity * volatility_weight(c.target_volatility, sigma, c.highest)
        return np.asarray(size[:, None] * weights * self._kept)

    def _pods(self, equity: Floats) -> Floats:
        """Part of their books that pods have left: what was taken away does not come back."""
        self._peak = np.maximum(self._peak, equity)
        loss = 1.0 - equity / np.maximum(self._peak, 1e-9)
        self._book = np.minimum(self._book, pod_scale(loss, self.config.halve_at, self.config.close_at))
        return self._book

    def margin_notice(self, instrument: str, before: float, after: float) -> None:
        """Constrained funds that hold the instrument make room for its new margin, and hold no more than that leaves from then on.

        Without other assets a fund keeps before / after of the position. With them it raises the part `elsewhere` of the margin that is missing by
        selling those, in proportion to what it has of each, and sells the less of the instrument. It begins at once, in slices until it next aims.
        """
        if instrument not in self.names or after <= before:
            return
        j = self.names.index(instrument)
        self._leverage[j] = min(self._leverage[j], 1.0 / after)  # who has margin to spare keeps the new one ready
        worth = np.abs(self._held() * self.mids)
        raised = self.config.elsewhere * (after - before) * worth[:, j]
        # A position with margin sets only its margin free
        brings = np.where(self._margined, worth / self._leverage, worth)
        others = brings.sum(axis=1) - brings[:, j]
        part = np.divide(raised, others, out=np.full(self.size, np.inf), where=others > 0)
        elsewhere = np.where(part < 1.0, self.config.elsewhere, 0.0)
        kept = np.repeat(np.where(elsewhere > 0, 1.0 - part, 1.0)[:, None], len(self.names), axis=1)
        kept[:, j] = 1.0 - (1.0 - elsewhere) * (1.0 - before / after)
        sells = self.constrained & (worth[:, j] > 0)
        kept[~sells] = 1.0
        self._kept *= kept
        self._targets = np.where(sells[:, None], self._held() * kept, self._targets)
        self._notified[kept < 1.0] = 2  # the next aim may be due at once
        self.wake()

    def urgent(self) -> npt.NDArray[np.bool_]:
        """What a margin notice is about."""
        return self._notified > 0

    def reasons(self, instrument: int, held: Floats, change: Floats) -> npt.ArrayLike:
        """A margin notice, a pod's stop, or deleveraging, where it makes a position smaller."""
        smaller = Reason.STOP_LOSS if self.config.style == "pods" else Reason.DELEVERAGING
        reduces = np.where(self._notified[:, instrument] > 0, Reason.MARGIN_NOTICE, smaller)
        return np.where(held * change < 0, reduces, Reason.EXECUTION)
