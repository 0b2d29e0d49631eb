"""Arbitrageurs: they trade because one thing has two prices, and by trading make it one again. That is how a fall travels.

Three kinds: between a perpetual and its spot (`basis_arbitrage`), between venues of one coin (`venue_arbitrage`), and between a basket, or
a fund's share, and what it stands for (`index_arbitrage`). All are takers with finite means. They set limits within which each lot gains what
the account wants, and send all legs at once, as orders that trade at once or not at all, as large as what the thinnest book shows within its
limit. A leg that stays alone is mended at the next look.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from mesa.time import Schedule
from pydantic import Field, model_validator

from abm.agents import carry
from abm.agents.base import Coins, Floats, Ints, Numbers, Population, TraderConfig, trader
from abm.agents.view import BPS, Book, View
from abm.clock import Seconds
from abm.exchange.description import MONEY_UNITS, Positive
from abm.exchange.gateway import Latency
from abm.exchange.messages import Phase, Reason, Records, Side, TimeInForce, join

_LEVELS = 50  # of a book, that an arbitrageur looks at
_ON_THE_WAY = 1.02  # prices may move before an order arrives


class ArbitrageConfig(TraderConfig):
    """What all arbitrageurs are told."""

    latency: Latency = Field(Latency(base=2.0, spread=8.0), description="time from a decision to the exchange")
    look: Seconds = Field(2.0, gt=0, description="mean time between two looks of an account", examples=["2s"])
    edge_bps: tuple[float, float] = Field(
        (1.0, 10.0),
        description="gain beyond all fees that accounts want, basis points: least, greatest",
        examples=[[1, 10]],
    )
    slice_usd: float = Field(
        200_000.0, gt=0, description="largest trade of an account at a look, currency", examples=[200_000]
    )
    slippage: float = Field(
        0.002, gt=0, lt=0.5, description="a leg is mended no further than this from the mid", examples=[0.002]
    )

    @model_validator(mode="after")
    def _ordered(self) -> "ArbitrageConfig":
        least, greatest = self.edge_bps
        if not 0 <= least <= greatest:
            raise ValueError("edge_bps must be two numbers of at least 0, the smaller first")
        return self


class Arbitrageurs(Population):
    """Accounts that look for two prices of one thing, each for a gain of its own."""

    config: ArbitrageConfig

    def setup(self) -> None:
        """Draw what each account wants to gain."""
        c = self.config
        least, greatest = c.edge_bps
        self.edge = (least + (greatest - least) * self.random("edge").random(self.size)) * BPS
        """Gain beyond fees that each account wants, as a fraction."""
        self._least_edge = float(self.edge.min(initial=np.inf))
        self._wakeups = self.wakeups(c.look)
        self._survey_at = 0.0
        self.every_step = True

    def survey(self) -> None:
        """Look at all accounts, once in a while, for what would make one act though prices are not apart."""
        raise NotImplementedError(f"{type(self).__name__} must override survey")

    def stirs(self, view: View) -> bool:
        """Whether any account might act now. Asked in every step, and usually no."""
        raise NotImplementedError(f"{type(self).__name__} must override stirs")

    def act(self, view: View, who: Ints) -> Records | None:
        """What some accounts (counted from 0) send, who look while something stirs."""
        raise NotImplementedError(f"{type(self).__name__} must override act")

    def decide(self, view: View) -> Records | None:
        """Messages of those who look now."""
        who = self._wakeups.due(view.seconds)
        if view.seconds >= self._survey_at:
            self._survey_at = view.seconds + self.config.look
            self.survey()
        return self.act(view, who) if len(who) and self.stirs(view) else None

    def taker_fee(self, name: str) -> float:
        """What trading at once costs in an instrument, as a fraction of the notional."""
        fees = self.model.scenario.instruments[name].fees
        return fees[min(self.config.tier, len(fees) - 1)].taker

    def live(self, books: Sequence[Book]) -> npt.NDArray[np.bool_]:
        """Which of some books trade continuously now."""
        phases = self.model.tops()["phase"]
        return np.array([phases[book.index] == Phase.CONTINUOUS for book in books])

    def within(self, book: Book, side: Side, limit: Floats) -> Floats:
        """Coins or shares shown within the limits of orders that are sent together: each counts on an equal part, or most legs would stay alone."""
        depth = self.model.exchange.depth(book.index, _LEVELS)
        tick = book.instrument.tick
        if side == Side.BUY:
            prices, lots, furthest = depth.ask_price, depth.ask_quantity, limit / tick
        else:
            prices, lots, furthest = -depth.bid_price, depth.bid_quantity, -limit / tick
        reached = np.searchsorted(prices, furthest + 1e-6, side="right")
        return np.concatenate(([0], np.cumsum(lots)))[reached] * book.instrument.lot / max(len(limit), 1)

    def take(self, book: Book, side: npt.ArrayLike, price: Numbers, quantity: Numbers, **terms: Any) -> Records:
        """Orders that trade at once at no worse than `price`, what is left being cancelled."""
        return self.limit(book, side, price, quantity, tif=TimeInForce.IOC, **{"reason": Reason.ARBITRAGE} | terms)

    def mend(self, book: Book, who: Ints, change: Floats) -> Records:
        """Orders that bring holdings of one book by `change` (coins) to where they belong, within the slippage."""
        side = np.where(change > 0, Side.BUY, Side.SELL)
        price = book.mid * (1.0 + np.sign(change) * self.config.slippage)
        return self.take(book, side, price, np.abs(change), who=who)

    def move(self, why: str, names: Iterable[str], coins: Floats) -> None:
        """Coins or shares that come to accounts from outside the market, or go there where negative (accounts, instruments)."""
        for name, change in zip(names, coins.T, strict=True):
            if (change < 0).any():
                self.model.house.debit(self.rows, why, coins=np.maximum(-change, 0.0), instrument=name)
            if (change > 0).any():
                self.model.house.credit(self.rows, why, coins=np.maximum(change, 0.0), instrument=name)


# ------------------------------------------------------------------ spot and perpetual


class BasisConfig(ArbitrageConfig):
    """Spot-perpetual arbitrageurs. Give as many accounts as keep each in brackets with little maintenance margin."""

    instrument: str = Field("btc-perp", description="perpetual (or future) of one coin", examples=["btc-perp"])
    spot: str = Field("btc-spot", description="the coin", examples=["btc-spot"])
    accounts: int = Field(50, ge=0, le=1_000_000, description="accounts", examples=[50])
    capital: float = Field(500e6, ge=0, description="currency for new trades, all accounts together", examples=[500e6])
    coins: float = Field(
        0.0,
        ge=0,
        description="coins of their own, all accounts together: where the perpetual is too cheap they hold it in place of these",
        examples=[10_000],
    )
    look: Seconds = Field(10.0, gt=0, description="mean time between two looks of an account", examples=["10s"])
    horizon: Seconds = Field(
        86_400.0, ge=0, description="time for which the present funding is expected to go on", examples=["1d"]
    )
    close_bps: tuple[float, float] = Field(
        (2.0, 30.0),
        description="accounts close where basis and funding are this far below zero, basis points: least, greatest",
        examples=[[2, 30]],
    )
    margin: float = Field(
        0.5, gt=0, le=2, description="cash behind a short position, as a part of it, when it is opened", examples=[0.5]
    )
    floor: float = Field(
        0.1, gt=0, lt=1, description="equity, as a part of the short position, below which they unwind", examples=[0.1]
    )
    restored: float = Field(0.2, gt=0, lt=2, description="what they bring it back to", examples=[0.2])
    account_leverage: float = Field(
        5.0, ge=1, le=1000, description="leverage that their accounts are set to", examples=[5]
    )
    forced_slippage: float = Field(
        0.01, gt=0, lt=0.5, description="the same as slippage when margin makes them unwind", examples=[0.01]
    )

    @model_validator(mode="after")
    def _margins(self) -> "BasisConfig":
        least, greatest = self.close_bps
        if not 0 <= least <= greatest:
            raise ValueError("close_bps must be two numbers of at least 0, the smaller first")
        if not self.floor < self.restored <= self.margin:
            raise ValueError("floor must be less than restored, and restored not more than margin")
        if self.margin * self.account_leverage < 1.1:
            raise ValueError("account_leverage must be at least 1.1 / margin, or orders are refused; raise it")
        if self.instrument == self.spot:
            raise ValueError("spot must be another instrument than instrument")
        return self

    @property
    def traded(self) -> tuple[str, ...]:
        """Names of the instruments it trades."""
        return self.spot, self.instrument


@trader("basis_arbitrage")
class BasisArbitrage(Arbitrageurs):
    """Cash and carry: they hold coins against a short perpetual, for its premium and the funding that its longs pay.

    They open where basis and the funding expected are more than the fees of going in and out, and close where both together have turned
    (the no-arbitrage bounds of He, Manela, Ross and von Wachter 2022, arXiv:2212.06888). The coins cannot be put behind the short position, so
    that a rise, too, can make them unwind. They take the other side of what everybody else is long of at the start.

    Nobody sells coins that he does not have. So where the perpetual is too cheap, and those who were short of it have closed, only accounts with
    `coins` of their own buy it: they sell these, and take them back when basis and funding have turned.
    """

    config: BasisConfig

    def setup(self) -> None:
        """Draw where each account closes."""
        super().setup()
        c, described = self.config, self.model.scenario.instruments
        perpetual = described[c.instrument]
        if perpetual.margin is None or perpetual.kind not in ("perpetual", "future"):
            raise ValueError(f"traders.{self.name}.instrument: {c.instrument} is not a perpetual or future with margin")
        least, greatest = c.close_bps
        self._turn = (least + (greatest - least) * self.random("close").random(self.size)) * BPS
        self._least_turn = float(self._turn.min(initial=np.inf))
        self._expected = 0.0
        self._funding = perpetual.margin.funding
        self._fees = self.taker_fee(c.instrument) + self.taker_fee(c.spot)
        self._spot_lot = described[c.spot].lot
        self._lot = max(perpetual.lot, self._spot_lot)
        self._terms = carry.Terms(
            slice_usd=c.slice_usd,
            slippage=c.slippage,
            forced_slippage=c.forced_slippage,
            margin=c.margin,
            floor=c.floor,
            restored=c.restored,
            account_leverage=c.account_leverage,
            fees=self._fees,
            lot=self._lot,
            on_the_way=_ON_THE_WAY,
        )
        n, rows = self.size, slice(self.first, self.first + self.size)
        self._coins, self._futures = (
            self.model.position[rows, self.model.exchange.index(name)] for name in (c.spot, c.instrument)
        )
        self._own, self._swapped = np.zeros(n, np.int64), False
        self._plan = carry.Plan(np.zeros(n, np.int64), np.zeros(n, np.bool_), np.zeros((2, n)), np.zeros((2, n)))
        self.set_leverage(c.instrument, min(c.account_leverage, perpetual.margin.leverage))

    def endow(self) -> tuple[Numbers, Coins]:
        """Cash and coins of their own in equal parts; other coins come with what they balance."""
        c, n = self.config, max(self.size, 1)
        return c.capital / n, {c.spot: c.coins / n}

    def opened(self) -> None:
        """Know which coins are their own."""
        c = self.config
        if c.coins:
            own = self.holdings(c.spot) + self.holdings(c.instrument)
            self._own[:] = np.rint(own / self._spot_lot)

    def balance(self, instrument: str, lots: int) -> Ints | None:
        """Be short of what others are long of, in equal parts, with the coins and the margin for it; nobody is short of coins."""
        c = self.config
        if instrument != c.instrument or lots >= 0 or self.size == 0:
            return None
        perpetual, spot = (self.model.scenario.instruments[name] for name in (c.instrument, c.spot))
        each = np.full(self.size, lots // self.size, np.int64)
        each[: lots - int(each.sum())] += 1
        coins = -each * perpetual.lot
        worth = coins * (spot.reference_price or 0.0)
        assert perpetual.margin is not None
        brackets = perpetual.margin.rows
        bracket = next((b for b in brackets if b.up_to is None or worth[-1] <= b.up_to), brackets[-1])
        if bracket.maintenance >= c.margin:
            raise ValueError(
                f"traders.{self.name}: {worth[-1]:.3g} an account are held to a maintenance margin of {bracket.maintenance:g}; raise accounts"
            )
        self.model.house.credit(self.rows, "opening", cash=c.margin * worth, coins=coins, instrument=c.spot)
        return each

    def survey(self) -> None:
        """The funding expected, whether a leg stays alone, and the mark at which the first account comes to its floor."""
        c = self.config
        if self._funding is not None:
            rate = self.model.house.funding_rate(c.instrument)
            self._expected = rate * c.horizon / self._funding.interval
        coins, short = self.holdings(c.spot) - self._own * self._spot_lot, -self.holdings(c.instrument)
        self._swapped = bool((short < 0.0).any())
        self._alone = bool((np.abs(coins - short) >= self._lot).any())
        # Equity falls by `short` for each unit of currency: E - short (M - mark) = floor short M.
        worth = self.margin_equity() + short * self.model.view()[c.instrument].mark
        alarm = np.divide(worth, short * (1.0 + c.floor), out=np.full(self.size, np.inf), where=short > 0)
        self._alarm = float(alarm.min(initial=np.inf))

    def stirs(self, view: View) -> bool:
        """Whether basis and funding are worth a trade, a leg is alone, or margin short."""
        perpetual = view[self.config.instrument]
        opens, closes = self._rooms(view[self.config.spot], perpetual)
        return (
            self._alone
            or opens > 1.0 + self._least_edge
            or closes > 1.0 + self._least_turn
            or (self._swapped and opens * (1.0 + 2.0 * self._fees) > 1.0 + self._least_turn)
            or perpetual.mark > self._alarm
        )

    def _rooms(self, spot: Book, perpetual: Book) -> tuple[float, float]:
        """What a coin opened now brings over what it costs, all fees and funding counted, and a coin closed; 0 where quotes lack."""
        opens = closes = 0.0
        if perpetual.bid is not None and spot.ask is not None:
            opens = perpetual.bid / spot.ask * (1.0 + self._expected - 2.0 * self._fees)
        if perpetual.ask is not None and spot.bid is not None:
            closes = spot.bid / perpetual.ask / (1.0 + self._expected)
        return opens, closes

    def act(self, view: View, who: Ints) -> Records | None:
        """Both legs of what accounts open or close, what mends a leg that is alone, and what margin makes them unwind."""
        c, market = self.config, self.model
        spot, perpetual = view[c.spot], view[c.instrument]
        if not self.live([spot, perpetual]).all():
            return None
        opens, closes = self._rooms(spot, perpetual)
        side = Side.BUY if opens > closes else Side.SELL  # of the spot leg; it meets the other side of the book
        books, rows = (spot, perpetual), self.rows[who]
        some = carry.Accounts(
            who=who,
            coins=self._coins,
            own=self._own,
            futures=self._futures,
            equity=market.house.equity(rows),
            free=market.house.free_cash(rows),
            edge=self.edge,
            turn=self._turn,
        )
        kept = carry.plan(
            self._terms,
            *(carry.Leg(b.bid or b.mid, b.ask or b.mid, b.mid, b.instrument.tick, b.instrument.lot) for b in books),
            perpetual.mark,
            opens,
            closes,
            (
                market.exchange.levels(spot.index, Side(1 - side), _LEVELS),
                market.exchange.levels(perpetual.index, side, _LEVELS),
            ),
            some,
            self._plan,
            MONEY_UNITS,
        )
        if kept == 0:
            return None
        who, reason = self._plan.who[:kept], np.where(self._plan.forced[:kept], Reason.MARGIN_CALL, Reason.ARBITRAGE)
        parts = []
        for book, wanted, price in zip(books, self._plan.change[:, :kept], self._plan.price[:, :kept], strict=True):
            sides = np.where(wanted > 0, Side.BUY, Side.SELL)
            parts.append(self.take(book, sides, price, np.abs(wanted), who=who, reason=reason))
        return join(parts)


# ------------------------------------------------------------------ several venues of one coin


class VenueConfig(ArbitrageConfig):
    """Arbitrageurs between venues where one coin is traded."""

    accounts: int = Field(5, ge=0, le=100_000, description="accounts", examples=[5])
    venues: dict[str, float] = Field(
        min_length=2,
        description="instruments of one coin, and the share of an account's coins that it keeps on each",
        examples=[{"btc-spot": 0.68, "btc-spot-b": 0.32}],
    )
    cash: float = Field(50e6, ge=0, description="currency, all accounts together", examples=[50e6])
    coins: float = Field(700.0, ge=0, description="coins, all accounts together", examples=[700])
    transfer: Seconds = Field(
        1800.0, gt=0, description="time that coins take from one venue to another; also between two transfers"
    )

    @model_validator(mode="after")
    def _shares(self) -> "VenueConfig":
        if min(self.venues.values()) < 0 or sum(self.venues.values()) <= 0:
            raise ValueError("venues: shares must not be negative, nor all 0")
        if self.instrument not in self.venues:
            raise ValueError(f"instrument must be one of venues; set it to {next(iter(self.venues))}")
        return self

    @property
    def traded(self) -> tuple[str, ...]:
        """Names of the instruments it trades."""
        return tuple(self.venues)


@trader("venue_arbitrage")
class VenueArbitrage(Arbitrageurs):
    """They buy where a coin is cheap and sell where it is dear, with coins on all venues, and send coins after the sales.

    A trade gains where bid (1 - fee) > ask (1 + fee) (1 + edge); what it gains beyond that is shared between the limits of the two orders, so
    that both may reach into their books.
    """

    config: VenueConfig

    def setup(self) -> None:
        """Remember fees, and send coins from time to time."""
        super().setup()
        c = self.config
        shares = np.array(list(c.venues.values()))
        self._shares = shares / shares.sum()
        self._fees = [self.taker_fee(name) for name in c.traded]
        self._lot = max(self.model.scenario.instruments[name].lot for name in c.traded)
        self._total = 0.0
        self.in_transit = np.zeros((self.size, len(c.venues)))
        """Coins on their way to each venue (accounts, venues)."""
        every = self.model.scenario.clock.units(c.transfer)
        self.model.schedule_recurring(self._transfer, Schedule(interval=max(1.0, every), start=max(1.0, every)))

    def endow(self) -> tuple[Numbers, Coins]:
        """Equal parts of cash, and of coins on each venue."""
        c, n = self.config, max(self.size, 1)
        each = np.floor(c.coins / n * self._shares / self._lot) * self._lot
        self._total = float(each.sum())
        return c.cash / n, dict(zip(c.venues, each, strict=True))

    def survey(self) -> None:
        """Whether anyone has more or fewer coins than at the start."""
        self._alone = bool((np.abs(self._lacking(self._everyone)) >= self._lot).any())

    def stirs(self, view: View) -> bool:
        """Whether a bid is above an ask elsewhere, or a leg alone."""
        books = [view[name] for name in self.config.traded]
        bid = max((book.bid or 0.0) * (1.0 - fee) for book, fee in zip(books, self._fees, strict=True))
        ask = min((book.ask or math.inf) * (1.0 + fee) for book, fee in zip(books, self._fees, strict=True))
        return self._alone or bid > ask * (1.0 + self._least_edge)

    def act(self, view: View, who: Ints) -> Records | None:
        """Trades where a bid is above an ask elsewhere; and where none is, what mends a leg that stayed alone."""
        books = [view[name] for name in self.config.traded]
        live, fees = self.live(books), np.array(self._fees)
        net_bids = np.where(live, [book.bid or 0.0 for book in books], 0.0) * (1.0 - fees)
        net_asks = np.where(live, [book.ask or np.inf for book in books], np.inf) * (1.0 + fees)
        cheap = int(np.argmin(net_asks))
        offers = np.where(self._free(who) >= self._lot, net_bids, 0.0)
        dear = np.argmax(offers, axis=1)
        room = offers.max(axis=1) / (net_asks[cheap] * (1.0 + self.edge[who]))
        trades = room > 1.0
        sent = []
        for venue in np.unique(dear[trades]):
            some = np.flatnonzero(trades & (dear == venue))
            sent += self._pair(books[cheap], books[venue], who[some], np.sqrt(room[some]))
        lacking = self._lacking(who)
        rest = np.flatnonzero(~trades & (np.abs(lacking) >= self._lot))
        where = np.where(lacking[rest] < 0, dear[rest], cheap)
        for venue in np.unique(where[live[where]]):
            some = rest[where == venue]
            sent.append(self.mend(books[venue], who[some], lacking[some]))
        return join(sent) if sent else None

    def _lacking(self, who: Ints) -> Floats:
        """Coins that accounts have fewer than at the start."""
        held = sum(self.holdings(name, who) for name in self.config.traded)
        return np.asarray(self._total - held - self.in_transit[who].sum(axis=1))

    def _pair(self, cheap: Book, dear: Book, who: Ints, give: Floats) -> list[Records]:
        """A purchase and a sale of the same size, with limits that give way by the same factor."""
        assert cheap.ask is not None
        assert dear.bid is not None
        highest, lowest = cheap.ask * give, dear.bid / give
        size = np.minimum(self.within(cheap, Side.BUY, highest), self.within(dear, Side.SELL, lowest))
        affordable = self.free_cash(who) / (highest * (1.0 + self.taker_fee(cheap.instrument.name)))
        size = np.minimum(np.minimum(size, self.config.slice_usd / cheap.ask), affordable)
        size = whole(np.minimum(size, self.free_holdings(dear.instrument.name, who)), self._lot)
        return [self.take(cheap, Side.BUY, highest, size, who=who), self.take(dear, Side.SELL, lowest, size, who=who)]

    def _free(self, who: Ints) -> Floats:
        return np.stack([self.free_holdings(name, who) for name in self.config.traded], axis=1)

    def _transfer(self) -> None:
        """What was sent arrives, and what is more than its share on a venue is sent to where less is."""
        self.move("transfer", self.config.traded, self.in_transit)
        leaves, self.in_transit = shipments(self._free(self._everyone), self._shares, self._lot)
        self.move("transfer", self.config.traded, -leaves)


def whole(quantity: Floats, lot: float) -> Floats:
    """Quantities rounded down to whole lots, forgiving the float's last digits."""
    return np.asarray(np.floor(quantity / lot + 1e-6) * lot)


def shipments(held: Floats, shares: Floats, lot: float) -> tuple[Floats, Floats]:
    """Coins to be moved so that each venue holds its share: what leaves each venue, and what arrives there; the same in all.

    Args:
        held: Coins on each venue (accounts, venues).
        shares: Of the venues, of sum 1.
        lot: Coins are moved in whole lots.
    """
    beyond = held - held.sum(axis=1, keepdims=True) * shares
    leaves = whole(np.maximum(beyond, 0.0), lot)
    lacking = np.maximum(-beyond, 0.0)
    total = leaves.sum(axis=1, keepdims=True)
    arrives = whole(total * lacking / np.maximum(lacking.sum(axis=1, keepdims=True), lot), lot)
    everyone = np.arange(len(held))
    arrives[everyone, np.argmax(lacking, axis=1)] += (total - arrives.sum(axis=1, keepdims=True))[:, 0]
    return leaves, arrives


# ------------------------------------------------------------------ a basket and what it stands for


class IndexConfig(ArbitrageConfig):
    """Arbitrageurs between a basket, such as an index future or a fund's share, and its components."""

    accounts: int = Field(5, ge=0, le=100_000, description="accounts", examples=[5])
    components: dict[str, Positive] = Field(
        min_length=1,
        description="instruments that one unit of `instrument` stands for, and how much of each",
        examples=[{"btc-spot": 0.000568}],
    )
    cash: float = Field(50e6, ge=0, description="currency, all accounts together", examples=[50e6])
    baskets: float = Field(
        1_000.0,
        ge=0,
        description="units of the basket, and as much of the components again, held by all accounts together where they are spot",
        examples=[1e6],
    )
    account_leverage: float = Field(
        5.0, ge=1, le=1000, description="leverage that their accounts are set to where there is margin", examples=[5]
    )
    primary: Seconds | None = Field(
        None,
        gt=0,
        description="of a fund's share: time between two creations or redemptions in kind; none = there are none",
        examples=["1h"],
    )
    block: float = Field(1.0, gt=0, description="units that are created or redeemed at a time", examples=[40_000])

    @model_validator(mode="after")
    def _another(self) -> "IndexConfig":
        if self.instrument in self.components:
            raise ValueError(f"components: {self.instrument} cannot be a part of itself; leave it out")
        return self

    @property
    def traded(self) -> tuple[str, ...]:
        """Names of the basket and of its components."""
        return self.instrument, *self.components


@trader("index_arbitrage")
class IndexArbitrage(Arbitrageurs):
    """They sell a basket and buy its components where the basket is dear, and the reverse where it is cheap.

    With units u a basket is dear where its bid (1 - fee) > sum of u ask (1 + fee), times 1 + edge (Cornell and French 1983, Journal of Futures
    Markets 3:1, without carry). Of a fund's share they can create what they are short of out of components, and redeem what they have too
    much of: the authorised participants of a fund.
    """

    channel = "arbitrage"
    config: IndexConfig

    def setup(self) -> None:
        """Remember units and fees; in a fund, create and redeem from time to time."""
        super().setup()
        c = self.config
        self._names = c.traded
        self._units = [1.0, *c.components.values()]
        self._fees = [self.taker_fee(name) for name in self._names]
        described = [self._instruments[self.model.exchange.index(name)] for name in self._names]
        self._lots = np.array([item.lot for item in described[1:]])
        self._paid = np.array([item.kind == "spot" and item.margin is None for item in described])
        for item in described:
            if item.margin is not None:
                self.set_leverage(item.name, min(c.account_leverage, item.margin.leverage))
        self._start: Floats | None = None
        if c.primary is not None:
            if not self._paid.all():
                raise ValueError(f"traders.{self.name}.primary: only spot can be created and redeemed; leave it out")
            for item, units in zip(described, (c.block * u for u in self._units), strict=True):
                if abs(units / item.lot - round(units / item.lot)) > 1e-6:
                    raise ValueError(
                        f"traders.{self.name}.block: {units:g} of {item.name} are not whole lots of {item.lot:g}; choose another block"
                    )
            every = max(1.0, self.model.scenario.clock.units(c.primary))
            self.model.schedule_recurring(self._convert, Schedule(interval=every, start=every))

    def endow(self) -> tuple[Numbers, Coins]:
        """Equal parts of cash, baskets, and components of as many baskets again."""
        c, n = self.config, max(self.size, 1)
        holds = zip(self._names, self._units, self._paid, strict=True)
        return c.cash / n, {name: c.baskets / n * units for name, units, paid in holds if paid}

    def survey(self) -> None:
        """Whether any account's components are not what its baskets ask for."""
        if self._start is None:
            self._start = self._held(self._everyone)
        self._alone = bool((np.abs(self._lacking(self._everyone)) >= self._lots).any())

    def stirs(self, view: View) -> bool:
        """Whether basket and components are apart, or a leg is alone."""
        return self._alone or max(self._gains([view[name] for name in self._names])) > 1.0 + self._least_edge

    def _gains(self, books: list[Book]) -> tuple[float, float]:
        """What a basket sold brings over what its components cost, after fees, and the reverse; 0 where quotes lack."""
        bids, asks = [], []
        for book, units, fee in zip(books, self._units, self._fees, strict=True):
            bids.append((book.bid or 0.0) * units * (1.0 - fee))
            asks.append((book.ask or math.inf) * units * (1.0 + fee))
        return bids[0] / sum(asks[1:]), sum(bids[1:]) / asks[0] if min(bids[1:]) > 0 else 0.0

    def act(self, view: View, who: Ints) -> Records | None:
        """Trades where basket and components are apart; and where they are not, what mends a leg that stayed alone."""
        books = [view[name] for name in self._names]
        if not self.live(books).all():
            return None
        sent, idle = [], np.ones(len(who), np.bool_)
        for sells, gain in zip((True, False), self._gains(books), strict=True):
            room = gain / (1.0 + self.edge[who])
            some = room > 1.0
            if some.any():
                sent += self._package(books, sells, who[some], np.sqrt(room[some]))
                idle &= ~some
        lacking = self._lacking(who)
        for book, lot, change in zip(books[1:], self._lots, lacking.T, strict=True):
            some = idle & (np.abs(change) >= lot)
            if some.any():
                sent.append(self.mend(book, who[some], change[some]))
        return join(sent) if sent else None

    def _lacking(self, who: Ints) -> Floats:
        """Of each component, what accounts have less of than belongs to their baskets (accounts, components)."""
        assert self._start is not None
        change = self._held(who) - self._start[who]
        return np.asarray(-change[:, 1:] - np.array(self._units[1:]) * change[:, :1])

    def _package(self, books: list[Book], sells: bool, who: Ints, give: Floats) -> list[Records]:
        """All legs of a trade, with limits that give way by the same factor; `sells` the basket or buys it."""
        needs, size = np.zeros(len(who)), np.full(len(who), self.config.slice_usd / books[0].mid)
        legs = []
        for j, (book, units) in enumerate(zip(books, self._units, strict=True)):
            side = Side.SELL if sells == (j == 0) else Side.BUY
            price = (book.bid or 0.0) / give if side == Side.SELL else (book.ask or 0.0) * give
            size = np.minimum(size, self.within(book, side, price) / units)
            if self._paid[j] and side == Side.SELL:
                size = np.minimum(size, self.free_holdings(book.instrument.name, who) / units)
            else:
                part = 1.0 if self._paid[j] else 1.0 / self.config.account_leverage
                needs += units * np.maximum(price, book.mid) * (part + self._fees[j]) * _ON_THE_WAY
            legs.append((book, side, price, units))
        size = whole(np.minimum(size, np.maximum(self.free_margin(who), 0.0) / needs), books[0].instrument.lot)
        return [self.take(book, side, price, size * units, who=who) for book, side, price, units in legs]

    def _held(self, who: Ints) -> Floats:
        return np.stack([self.holdings(name, who) for name in self._names], axis=1)

    def _convert(self) -> None:
        """Create what is short of the baskets there were at the start, and redeem what is beyond them, in whole blocks."""
        if self._start is None:
            return
        free = np.stack([self.free_holdings(name) for name in self._names], axis=1)
        units = np.array(self._units)
        lacking = (self._start - self._held(self._everyone))[:, 0]
        possible = np.where(lacking > 0, (free[:, 1:] / units[1:]).min(axis=1), free[:, 0])
        blocks = whole(np.minimum(np.abs(lacking), possible), self.config.block)
        net = np.where(lacking > 0, blocks, -blocks)
        self.move("creation", self._names, net[:, None] * np.concatenate(([1.0], -units[1:])))
