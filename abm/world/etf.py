"""A spot fund, as far as no trader decides it: how its net asset value is fixed, what a basket is, and how baskets settle.

MECHANICS 2. The price of a coin is fixed from the trades of 15:00 to 16:00 in New York: the volume-weighted median of each of 12 parts of
five minutes, then their mean. Baskets ordered before the hour are priced by it and settle at the close of the next session.
"""

import math
from dataclasses import dataclass, replace
from datetime import date, time
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from pydantic import Field

from abm.exchange.calendar import Hours
from abm.exchange.description import MONEY_UNITS, NS, Frozen
from abm.exchange.exchange import Report
from abm.exchange.messages import TRADE, Records, join

if TYPE_CHECKING:
    from abm.market import Market

FIXING = Hours(opens=time(15), closes=time(16))
"""The hour from whose trades the net asset value is fixed."""
PARTITIONS = 12
_ENDLESS = 2**31


class Fund(Frozen):
    """What stands behind a share."""

    underlying: str = Field("btc-spot", description="instrument that the fund holds", examples=["btc-spot"])
    coins_per_share: float = Field(0.000568, gt=0, description="coins behind a share", examples=[0.000568])
    basket: int = Field(40_000, ge=1, description="shares that are created or redeemed together", examples=[40_000])

    @property
    def basket_coins(self) -> float:
        """Coins behind a basket."""
        return self.basket * self.coins_per_share

    def indicative_value(self, price: float) -> float:
        """Indicative net asset value of a share, in currency, at a price of the coin."""
        return self.coins_per_share * price


def volume_weighted_median(prices: npt.ArrayLike, volumes: npt.ArrayLike) -> float:
    """The price up to which half of the volume traded; the mean of two prices where the half falls between them.

    Args:
        prices: Of trades, in any order; shape (n,), n > 0.
        volumes: Of the same trades, above 0.
    """
    paid, traded = np.asarray(prices, np.float64), np.asarray(volumes)
    order = np.argsort(paid, kind="stable")
    paid, twice = paid[order], 2 * np.cumsum(traded[order])
    at = int(np.searchsorted(twice, twice[-1] / 2))
    return float(paid[at : at + 2].mean() if twice[at] == twice[-1] / 2 else paid[at])


def fixing_price(
    when: npt.ArrayLike,
    prices: npt.ArrayLike,
    volumes: npt.ArrayLike,
    opens: float,
    closes: float,
    partitions: int = PARTITIONS,
) -> float:
    """Mean of the volume-weighted medians of equal parts of an hour; parts without a trade do not count.

    Args:
        when: Times of trades; shape (n,). Those outside `[opens, closes)` are left out.
        prices: In currency; shape (n,).
        volumes: In coins or lots; shape (n,).
        opens: Where the hour begins, in the unit of `when`.
        closes: Where it ends.
        partitions: Number of parts.

    Returns:
        The price in currency; not a number if nothing traded.
    """
    times, paid, traded = np.asarray(when), np.asarray(prices, np.float64), np.asarray(volumes)
    part = np.floor((times - opens) / (closes - opens) * partitions)
    inside = [part == k for k in range(partitions)]
    medians = [volume_weighted_median(paid[each], traded[each]) for each in inside if each.any()]
    return float(np.mean(medians)) if medians else math.nan


class FixingClock:
    """Collects the trades of an instrument in each session's hour, and fixes its price as the hour ends."""

    def __init__(self, market: "Market", instrument: str, hours: Hours = FIXING) -> None:
        """Watch a market from now on; where the run begins within the hour, the rest of it counts."""
        self._market = market
        self._index = market.exchange.index(instrument)
        self._trades: list[Records] = []
        self._coming: list[tuple[date, int, int]] = []
        self.prices: dict[date, float] = {}
        """Price of a coin in currency by local date; not a number where nothing traded."""
        clock, zone = market.scenario.clock, ZoneInfo(hours.timezone)
        for opens, closes in hours.between(clock.start, clock.end):
            start, end = (round(clock.seconds_at(moment) * NS) for moment in (opens, closes))
            self._coming.append((opens.astimezone(zone).date(), start, end))
        market.observers.append(self)

    def observe(self, report: Report) -> None:
        """Take in what a step brought; the market calls this."""
        now = self._market.time_ns
        if not self._coming or now <= self._coming[0][1]:
            return
        self._trades.append(report.trades[report.trades["instrument"] == self._index])
        day, opens, closes = self._coming[0]
        if now < closes:
            return
        self._coming.pop(0)
        trades = join(self._trades, TRADE)
        self._trades.clear()
        tick = self._market.exchange.instruments[self._index].tick
        self.prices[day] = fixing_price(trades["time"], trades["price"] * tick, trades["quantity"], opens, closes)


@dataclass(frozen=True)
class Order:
    """Baskets that somebody has ordered from a fund."""

    account: int
    baskets: int
    """Created; redeemed where negative."""
    price: float
    """Price of a coin at the fixing, in currency."""
    settles: float
    """Seconds since the start of the run, at the earliest."""


class PrimaryMarket:
    """Where a fund issues shares and takes them back, a basket at a time; orders settle at the next session's close.

    In kind, coins change hands between the fund's custody and who ordered; in cash, what they are worth at the fixing. What cannot be
    delivered stays due.
    """

    def __init__(self, market: "Market", fund: Fund, share: str, custody: int | None, in_kind: bool) -> None:
        """Open it.

        Args:
            market: The market.
            fund: What stands behind a share.
            share: Instrument of the share.
            custody: Account that holds the fund's coins and cash; None where they are kept outside the market.
            in_kind: Whether coins change hands, or their worth in cash.
        """
        self._market, self._fund, self._share, self._custody, self._in_kind = market, fund, share, custody, in_kind
        self.orders: list[Order] = []
        """Those that have not settled."""

    def due(self, accounts: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        """Baskets that each account has ordered and that have not settled; redemptions count below zero."""
        return np.array([sum(o.baskets for o in self.orders if o.account == row) for row in accounts], np.int64)

    def settle(self) -> int:
        """Settle what is due by now, as far as both sides can deliver.

        Returns:
            Baskets created, less those redeemed.
        """
        total, orders, self.orders = 0, self.orders, []
        for order in orders:
            settled = self._deliver(order) if order.settles <= self._market.seconds else 0
            total += settled
            if settled != order.baskets:
                self.orders.append(replace(order, baskets=order.baskets - settled))
        return total

    def _deliver(self, order: Order) -> int:
        """Exchange as many baskets of an order as both sides have the means for; how many, signed as the order."""
        fund, creates = self._fund, order.baskets > 0
        against = fund.underlying if self._in_kind else None
        each = fund.basket_coins if self._in_kind else fund.basket_coins * order.price
        payer, payee = (order.account, self._custody) if creates else (self._custody, order.account)
        baskets = min(abs(order.baskets), self._affords(payer, against, each))
        if not creates:
            baskets = min(baskets, self._affords(order.account, self._share, fund.basket))
        if baskets == 0:
            return 0
        why = "creation" if creates else "redemption"
        self._move(payer, payee, why, baskets * each, against, order.price)
        shares, cost = float(baskets * fund.basket), fund.indicative_value(order.price)
        giver, taker = (None, order.account) if creates else (order.account, None)
        self._move(giver, taker, why, shares, self._share, cost)
        return baskets if creates else -baskets

    def _move(
        self, payer: int | None, payee: int | None, why: str, amount: float, instrument: str | None, cost: float
    ) -> None:
        """Move currency, or coins or shares of an instrument, from one account to another; None is outside the market."""
        house = self._market.house
        what: dict[str, Any] = {"cash": amount} if instrument is None else {"coins": amount, "instrument": instrument}
        if payer is not None:
            house.debit(np.array([payer], np.int32), why, **what)
        if payee is not None:
            house.credit(np.array([payee], np.int32), why, **what, cost=cost)

    def _affords(self, account: int | None, instrument: str | None, each: float) -> int:
        """How many times an account can give an amount of currency, or of an instrument."""
        if account is None:
            return _ENDLESS
        if instrument is None:
            units = int(self._market.house.free_cash(np.array([account], np.int32))[0])
            return max(units, 0) // math.ceil(each * MONEY_UNITS)
        index, accounts = self._market.exchange.index(instrument), self._market.exchange.accounts
        lots = accounts.position[account, index] - accounts.position_reserved[account, index]
        return int(lots * self._market.exchange.instruments[index].lot / each + 1e-9)
