"""Portfolios: populations that aim at an exposure in each of several instruments now and then, and trade towards it in slices.

What they aim at is the business of a kind of trader; here is what all of them share. An instrument that has margin may be held short and
with leverage; spot that is paid in full may not be short, and where more of it is wanted than a fund has, somebody outside the market lends
the difference against it, on the terms of a margin account where there is one (`margin_account.py`). What is decided while an instrument is
closed goes into its next opening auction, and what a day has left into its closing one, as limits that are good for the auction alone; in a
halt, and in the call that ends one, it is left alone.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from abm.agents.base import Coins, Floats, Numbers, Population, TraderConfig
from abm.agents.margin_account import MarginAccount, called, carried
from abm.agents.view import Book, View
from abm.clock import Seconds
from abm.exchange.description import Positive
from abm.exchange.instrument import Instrument
from abm.exchange.messages import Phase, Reason, Records, Side, join
from abm.world.fundamental import YEAR

DAY = 86400.0
_CALMEST = 0.25  # nobody believes in a volatility below this part of that at the start


def ewma_covariance(
    covariance: Floats, returns: Floats, elapsed: float, decay: float, known: npt.NDArray[np.bool_] | None = None
) -> Floats:
    """A covariance of returns with an exponential memory after one more sample (J.P. Morgan 1996, RiskMetrics).

    For the squares of returns that are not known, as a market was closed, stands what is expected of them by the covariance so far and the
    returns that are (Dempster, Laird and Rubin 1977, Journal of the Royal Statistical Society B 39:1): a closed market is not a calm one.

    Args:
        covariance: So far, a year (k, k), positive definite.
        returns: Log returns since the last sample (k,).
        elapsed: Seconds since then.
        decay: Weight of what was so far.
        known: Which of the returns are known (k,); all of them where absent.
    """
    squares = np.outer(returns, returns) * YEAR / elapsed
    if known is not None and not known.all():
        rest, cross = ~known, covariance[np.ix_(known, ~known)]
        slopes = np.linalg.solve(covariance[np.ix_(known, known)], cross)
        expected = returns.copy()
        expected[rest] = returns[known] @ slopes
        squares = np.outer(expected, expected) * YEAR / elapsed
        squares[np.ix_(rest, rest)] += covariance[np.ix_(rest, rest)] - cross.T @ slopes
    return np.asarray(decay * covariance + (1.0 - decay) * squares)


def volatility_weight(target: float, volatility: float, highest: float) -> float:
    """Part of the equity to hold so that its volatility is the target: min(highest, target / volatility)."""
    return min(highest, target / volatility)


class PortfolioConfig(TraderConfig):
    """What all portfolios are told."""

    capital: float = Field(
        500e6, ge=0, description="equity of all accounts together at the start, currency", examples=[500e6]
    )
    size_sigma: float = Field(
        1.0, ge=0, le=4, description="standard deviation of the logarithm of an account's equity", examples=[1.0]
    )
    every: Seconds = Field(3600.0, gt=0, description="time between two aims", examples=["1h"])
    slice: Seconds = Field(300.0, gt=0, description="time between two child orders", examples=["5min"])
    band: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="an exposure nearer to its aim than this part of the equity is left",
        examples=[0.02],
    )
    slippage: float = Field(
        0.003, gt=0, lt=0.5, description="no trade further than this fraction from the mid", examples=[0.003]
    )
    protection: float = Field(
        0.1, gt=0, lt=0.5, description="the same of orders into an opening or closing auction", examples=[0.1]
    )
    account_leverage: float = Field(
        10.0, ge=1, le=1000, description="leverage that its accounts are set to where there is margin", examples=[10]
    )
    cushion: float = Field(
        0.5, ge=0, description="margin kept ready beyond what positions take, as a part of it", examples=[0.5]
    )
    broker: MarginAccount | None = Field(
        None, description="terms on which outsiders lend against shares; none = they lend whatever is asked for"
    )
    decay: float = Field(
        0.94, gt=0, lt=1, description="weight of the past in the covariance, from one aim to the next", examples=[0.94]
    )
    volatility: float = Field(0.42, gt=0, le=5, description="a year, of each instrument at the start", examples=[0.42])
    volatilities: dict[str, Positive] = Field(
        default={}, description="the same for single instruments", examples=[{"gold": 0.2}]
    )
    correlation: float = Field(
        0.3, ge=0, le=1, description="of any two instruments' returns at the start", examples=[0.3]
    )

    @model_validator(mode="after")
    def _slices_fit(self) -> "PortfolioConfig":
        if self.slice > self.every:
            raise ValueError("slice must not be longer than every; lower slice")
        return self

    @property
    def traded(self) -> tuple[str, ...]:
        """Names of the instruments it holds."""
        return (self.instrument,)


class Portfolio(Population):
    """Accounts that hold instruments near a target. A kind of trader overrides `exposures`, and its configuration `traded`."""

    config: PortfolioConfig

    def exposures(self, equity: Floats) -> Floats:
        """Currency wanted in each instrument, short where negative.

        Args:
            equity: Currency that each account is worth, not negative.

        Returns:
            Shape (accounts, instruments).
        """
        raise NotImplementedError(f"{type(self).__name__} must say what it aims at: override exposures")

    def urgent(self) -> npt.NDArray[np.bool_]:
        """Which holdings (accounts, instruments) are brought to their aim however near they are."""
        return np.zeros((self.size, len(self.names)), np.bool_)

    def reasons(self, instrument: int, held: Floats, change: Floats) -> npt.ArrayLike:
        """`Reason` of what is traded in one of its instruments, by what is held and what is wanted in addition (coins)."""
        return np.where(held * change < 0, Reason.DELEVERAGING, Reason.EXECUTION)

    def setup(self) -> None:
        """Begin at the target, with the covariance that the configuration gives."""
        c, n, described = self.config, self.size, self.model.scenario.instruments
        self.names = c.traded
        """What it holds; the order of instruments in all its arrays."""
        held = [self._instruments[self.model.exchange.index(name)] for name in self.names]
        self._spot = np.array([instrument.kind == "spot" for instrument in held])
        self._margined = np.array([instrument.margin is not None for instrument in held])
        self.mids = np.array([described[name].reference_price or 0.0 for name in self.names])
        """Mid prices when it last aimed."""
        volatility = np.array([c.volatilities.get(name, c.volatility) for name in self.names])
        correlation = np.where(np.eye(len(self.names)), 1.0, c.correlation)
        self._covariance = np.outer(volatility, volatility) * correlation
        self._floor = (_CALMEST * volatility) ** 2
        self._live = self._known = np.ones(len(held), np.bool_)  # what traded when it last aimed, and then and now
        size = np.exp(c.size_sigma * self.random("size").standard_normal(n))
        self.capital = c.capital * size / size.sum() if n else size
        """Equity at the start, currency."""
        self.debt = np.zeros(n)
        """Currency lent to each account from outside the market."""
        self._leverage = np.array(
            [min(c.account_leverage, i.margin.leverage) if i.margin is not None else c.account_leverage for i in held]
        )
        for instrument, leverage in zip(held, self._leverage.tolist(), strict=True):
            if instrument.margin is not None:
                self.set_leverage(instrument.name, leverage)
        self._lends = self._lent_against(held)
        self._forced = np.zeros((n, len(held)), np.bool_)  # what a broker has called and is not sold yet
        self._targets = self._allowed(self.exposures(self.capital), self.capital, np.zeros(1)) / self.mids
        self._loan = np.zeros(n)
        self._aimed_at = 0.0
        self.wake_every(c.slice, start=c.slice)
        self._await_calls(held)

    def _lent_against(self, held: list[Instrument]) -> npt.NDArray[np.bool_]:
        """Which of its instruments a broker lends against."""
        shares = () if self.config.broker is None else self.config.broker.shares
        for name in shares:
            described = self.model.scenario.instruments.get(name)
            if described is None or described.kind != "spot" or described.margin is not None:
                raise ValueError(
                    f"traders.{self.name}.broker.shares: {name} is not paid in full here; name shares, or leave it out"
                )
        return np.array([instrument.name in shares for instrument in held])

    def _await_calls(self, held: list[Instrument]) -> None:
        """Wake as each call before an opening or closing auction begins."""
        clock = self.model.scenario.clock
        self._calls = [
            (math.ceil(clock.units(clock.seconds_at(begins))), j)
            for j, instrument in enumerate(held)
            if instrument.calendar is not None
            for begins in instrument.calendar.calls(clock.start, clock.end)
        ]
        for step in sorted({step for step, _ in self._calls}):
            self.model.schedule_event(self.wake, at=step)

    def endow(self) -> tuple[Numbers, Coins]:
        """What is held at the start of spot, and the rest of the capital, or the margin of other positions, in cash."""
        worth = self._targets * self.mids
        coins = np.where(self._spot, np.maximum(self._targets, 0.0), 0.0)
        spot = (coins * self.mids).sum(axis=1)
        # A thousandth more than the margin covers the rounding of positions
        margin = (1.001 + self.config.cushion) * np.where(self._spot, 0.0, np.abs(worth) / self._leverage).sum(axis=1)
        cash = np.maximum(self.capital - spot, margin)
        self.debt = np.maximum(spot + cash - self.capital, 0.0)
        return cash, {name: coins[:, j] for j, name in enumerate(self.names) if self._spot[j]}

    def open_positions(self) -> Mapping[str, tuple[Numbers, Numbers]]:
        """What is held at the start of other kinds, at the reference price."""
        return {
            name: (self._targets[:, j], self.mids[j])
            for j, name in enumerate(self.names)
            if not self._spot[j] and self._targets[:, j].any()
        }

    def owed(self) -> Numbers:
        """What was lent to each account from outside the market, currency."""
        return self.debt

    @property
    def covariance(self) -> Floats:
        """Covariance of returns a year as it is believed (instruments, instruments)."""
        lacking = np.maximum(self._floor - np.diag(self._covariance), 0.0)
        return np.asarray(self._covariance + np.diag(lacking))

    def equity(self, mids: Floats) -> Floats:
        """Currency that each account is worth: cash, margin and profit, coins at `mids`, less what was lent."""
        coins = sum(
            self.holdings(name) * mid
            for name, mid, paid in zip(self.names, mids, self._spot & ~self._margined, strict=True)
            if paid
        )
        return np.asarray(self.margin_equity() + coins - self.debt)

    def learn(self, mids: Floats, elapsed: float) -> None:
        """Take in prices, `elapsed` seconds after those before them."""
        before = self._covariance if self._known.all() else self.covariance
        self._covariance = ewma_covariance(before, np.log(mids / self.mids), elapsed, self.config.decay, self._known)
        self.mids = mids

    def decide(self, view: View) -> Records | None:
        """Aim anew where it is time, and send child orders for what is left until the next aim, or all of it into an auction."""
        c, now = self.config, view.seconds
        if now >= self._aimed_at + c.every - 1e-6:
            self._aim(view, now)
        self._answer_broker(view)
        slices = max(1, math.ceil((self._aimed_at + c.every - now) / c.slice - 1e-6))
        auctions = {j for step, j in self._calls if step <= self.model.steps_done}
        if auctions:
            self._calls = [call for call in self._calls if call[0] > self.model.steps_done]
        sent = []
        for j, book in enumerate(view[name] for name in self.names):
            if book.phase == Phase.CONTINUOUS:
                sent.append(self._child(j, book, slices, c.slippage))
            elif book.phase == Phase.CALL and j in auctions:
                sent.append(self._child(j, book, 1, c.protection))
        return join(sent) if sent else None

    def _aim(self, view: View, now: float) -> None:
        mids = np.array([view[name].mid for name in self.names])
        live = np.array([view[name].phase == Phase.CONTINUOUS for name in self.names])
        self._known, self._live = live & self._live, live
        self.learn(mids, now - self._aimed_at)
        self._aimed_at = now
        equity = np.maximum(self.equity(mids), 0.0)
        held = self._held()
        wanted = self._allowed(self.exposures(equity), equity, held * mids)
        far = np.abs(wanted - held * mids) > self.config.band * equity[:, None]
        moves = far | (wanted == 0.0) | self.urgent()
        self._targets = np.where(moves, wanted / mids, held)
        self._loan = np.maximum(self._cost(wanted) - equity, 0.0)
        if self.config.broker is not None:
            self._loan = np.minimum(self._loan, np.maximum(self._loan_value(wanted), self.debt))
        self._settle_loans()

    def _answer_broker(self, view: View) -> None:
        """Sell shares at once, and pay back what they bring, where the equity in them has fallen below the broker's maintenance margin."""
        if self.config.broker is None:
            return
        if self._forced.any():
            self._settle_loans()
        held = self._held()
        worth = (held * [view[name].mid for name in self.names])[:, self._lends].sum(axis=1)
        part = called(worth, self.debt, self.config.broker.maintenance)
        self._forced = (part > 0)[:, None] & self._lends
        self._targets = np.where(self._forced, np.minimum(self._targets, held * (1.0 - part[:, None])), self._targets)
        self._loan = np.where(part > 0, np.minimum(self._loan, self.debt - part * worth), self._loan)

    def _allowed(self, exposures: Floats, equity: Floats, held: Floats) -> Floats:
        """Nothing that is paid in full can be held short, and no more is bought than a broker lends for; exposures and `held` in currency."""
        wanted = np.where(self._spot & ~self._margined, np.maximum(exposures, 0.0), exposures)
        if self.config.broker is None:
            return wanted
        return carried(wanted, held, self._cost(wanted) - self._loan_value(wanted), equity)

    def _cost(self, wanted: Floats) -> Floats:
        """Currency that exposures take: the price of what is paid in full, and margin with the cushion for the rest."""
        margin = (1.0 + self.config.cushion) * np.abs(wanted) / self._leverage
        return np.asarray(np.where(self._margined, margin, wanted).sum(axis=1))

    def _loan_value(self, wanted: Floats) -> Floats:
        """Currency that the broker lends for exposures."""
        assert self.config.broker is not None
        return np.asarray((1.0 - self.config.broker.initial) * wanted[:, self._lends].sum(axis=1))

    def _held(self) -> Floats:
        return np.stack([self.holdings(name) for name in self.names], axis=1)

    def _child(self, j: int, book: Book, slices: int, slippage: float) -> Records:
        """Orders for a part of what one instrument's holdings are away from their targets; in a call they end with the auction."""
        held = self.holdings(self.names[j])
        change = (self._targets[:, j] - held) / np.where(self._forced[:, j], 1, slices)
        who = np.flatnonzero(np.abs(change) >= book.instrument.lot)
        if not self._margined[j]:
            self._borrow(who, change[who] * book.mid * (1.0 + slippage))
        reasons = np.where(self._forced[:, j], Reason.MARGIN_CALL, self.reasons(j, held, change))
        return self.market(
            book,
            np.where(change > 0, Side.BUY, Side.SELL)[who],
            np.abs(change[who]),
            who=who,
            reason=reasons[who],
            slippage=slippage,
        )

    def _borrow(self, who: npt.NDArray[np.int64], cost: Floats) -> None:
        """Have outsiders lend what purchases cost beyond the cash there is, as far as the aim allows."""
        lent = np.clip(cost - self.free_cash(who), 0.0, np.maximum(self._loan - self.debt, 0.0)[who])
        some = np.flatnonzero(lent > 0)
        if len(some):
            self.model.house.credit(self.rows[who[some]], "loans to funds", cash=lent[some])
            self.debt[who[some]] += lent[some]

    def _settle_loans(self) -> None:
        """Pay back what is lent beyond what the aim needs, as far as cash is free; borrow what margin and cushion lack, as far as the aim allows."""
        used = np.where(self._margined, np.abs(self._held() * self.mids) / self._leverage, 0.0).sum(axis=1)
        spare = self.free_margin() - self.config.cushion * used
        paid = np.floor(np.minimum(self.debt - self._loan, spare))
        lent = np.where(used > 0, np.ceil(np.minimum(self._loan - self.debt, -spare)), 0.0)
        for change, move in ((paid, self.model.house.debit), (lent, self.model.house.credit)):
            some = np.flatnonzero(change > 0)
            if len(some):
                move(self.rows[some], "loans to funds", cash=change[some])
                self.debt[some] += change[some] if change is lent else -change[some]
