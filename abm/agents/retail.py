"""Retail traders who hold coins outright: they save, follow trends, buy dips, and some panic, each once and with what they have.

Attention is irregular: an account looks every few hours, and more often when the price moves. Nobody borrows here.
"""

import numpy as np
from pydantic import Field

from abm.agents.attention import stir
from abm.agents.base import Numbers, Population, TraderConfig, trader
from abm.agents.view import View
from abm.clock import Seconds
from abm.exchange.messages import Reason, Records, Side

_PULSE = 10.0  # seconds between two rounds of looks


class RetailConfig(TraderConfig):
    """Retail traders without leverage."""

    accounts: int = Field(20_000, ge=0, le=10_000_000, description="accounts", examples=[20_000])
    coins: float = Field(12_000.0, ge=0, description="coins held by all accounts together", examples=[12_000])
    cash: float = Field(500e6, ge=0, description="currency held by all accounts together", examples=[500e6])
    size_sigma: float = Field(
        2.0, ge=0, le=4, description="standard deviation of the logarithm of an account's size", examples=[2.0]
    )
    look: Seconds = Field(
        7200.0, gt=0, description="mean time between two looks of an account when nothing moves", examples=["2h"]
    )
    attention: float = Field(
        1.0,
        ge=0,
        le=10,
        description="looks become this much more frequent for each per cent moved in an hour, or in a day for its length",
    )
    savings: float = Field(
        0.25, ge=0, description="part of the cash that goes into regular purchases in a day", examples=[0.25]
    )
    trend_followers: float = Field(0.4, ge=0, le=1, description="share of accounts that follow trends", examples=[0.4])
    trend_window: Seconds = Field(14_400.0, gt=0, description="over which they measure a trend", examples=["4h"])
    trend_median: float = Field(0.03, gt=0, lt=1, description="median move that makes them follow it", examples=[0.03])
    dip_buyers: float = Field(0.3, ge=0, le=1, description="share of accounts that buy dips", examples=[0.3])
    dip_median: float = Field(
        0.06, gt=0, lt=1, description="median fall within a day that makes them buy", examples=[0.06]
    )
    panic_median: float = Field(
        0.15, gt=0, lt=1, description="median fall within a day that makes an account sell all", examples=[0.15]
    )
    threshold_sigma: float = Field(
        0.5, ge=0, le=2, description="standard deviation of the logarithm of all thresholds", examples=[0.5]
    )
    trade_share: float = Field(
        0.2, gt=0, le=1, description="part of its means that a follower or dip buyer uses at a time", examples=[0.2]
    )
    slippage: float = Field(
        0.01, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.01]
    )

    def model_post_init(self, _context: object) -> None:
        """The styles are shares of the same accounts."""
        if self.trend_followers + self.dip_buyers > 1:
            raise ValueError("trend_followers + dip_buyers must not be more than 1")


@trader("retail")
class RetailTraders(Population):
    """Trend followers, dip buyers and holders, all of whom can panic."""

    config: RetailConfig

    def setup(self) -> None:
        """Draw each account's style and thresholds."""
        c = self.config
        style = self.random("style").random(self.size)
        self.follows = style < c.trend_followers
        self.buys_dips = ~self.follows & (style < c.trend_followers + c.dip_buyers)
        self.panicked = np.zeros(self.size, bool)
        """Accounts that have sold out, and do not come back."""

        def thresholds(purpose: str, median: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
            return median * np.exp(c.threshold_sigma * self.random(purpose).standard_normal(self.size))

        self.trend_at = thresholds("trend", c.trend_median)
        self.dip_at = thresholds("dip", c.dip_median)
        self.panic_at = thresholds("panic", c.panic_median)
        self._acted_at = np.full(self.size, -np.inf)
        # Clocks run at the fastest rate; how many of those who are due really look depends on what the price does.
        self._fastest = 1.0 + 10.0 * c.attention
        self._wakeups = self.wakeups(c.look / self._fastest)
        self._looks = self.random("attention")
        self.wake_every(max(_PULSE, self.model.scenario.clock.step))

    def endow(self) -> tuple[Numbers, Numbers]:
        """Lognormal sizes that add up to what all hold together."""
        size = np.exp(self.config.size_sigma * self.random("size").standard_normal(self.size))
        share = size / size.sum() if self.size else size
        return self.config.cash * share, self.config.coins * share

    def decide(self, view: View) -> Records | None:
        """Orders of the accounts that look now."""
        c, now = self.config, view.seconds
        due = self._wakeups.due(now)
        if len(due) == 0:
            return None
        book = view[c.instrument]
        rate = min(1.0 + c.attention * stir(book), self._fastest)
        who = due[self._looks.random(len(due)) * self._fastest < rate]
        who = who[~self.panicked[who]]
        trend, day = book.return_over(c.trend_window), book.return_over(86400.0)
        coins, cash = self.free_holdings(who=who), self.free_cash(who)

        panics = (-day > self.panic_at[who] * self.nerve) & (coins > 0)
        rested = now - self._acted_at[who] >= c.trend_window
        joins = ~panics & self.follows[who] & rested & (abs(trend) > self.trend_at[who])
        # A dip twice as deep as the account waits for draws more than twice the money.
        depth = np.maximum(-day / self.dip_at[who], 0.0)
        dips = ~panics & ~joins & self.buys_dips[who] & rested & (depth > 1.0)
        acts = panics | joins | dips
        buys = dips | (joins & (trend > 0))
        # Whoever does nothing else buys a little, so that a day's looks add up to a day's savings.
        saves = ~acts & (cash > 0)
        buys |= saves
        part = np.where(dips, np.minimum(c.trade_share * depth**1.5, 1.0), c.trade_share)
        part[saves] = min(c.savings * c.look / (86400.0 * rate), 1.0)
        acts |= saves
        quantity = np.where(buys, part * cash / book.mid, np.where(panics, 1.0, part) * coins)
        self.panicked[who[panics]] = True
        self._acted_at[who[joins | dips]] = now
        reason = np.where(panics, Reason.PANIC, np.where(joins, Reason.TREND, Reason.ACCUMULATION))
        return self.market(
            book,
            np.where(buys, Side.BUY, Side.SELL)[acts],
            quantity[acts],
            who=who[acts],
            reason=reason[acts],
            slippage=c.slippage,
        )
