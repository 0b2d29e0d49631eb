"""Users of an on-chain lending pool: suppliers, borrowers against coins, large ones who deleverage in time, and liquidators.

MECHANICS 6; the pool's rule book is docs/concepts/lending.md. A loan is made before the run begins: its coins are in the pool, and what was
borrowed has been spent elsewhere. As the coin falls, large borrowers sell before they are liquidated, and liquidators seize the coins of
others and sell those: the spiral of collateral. A large borrower who holds another asset sells that first, and so takes the fall there.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from abm.agents.base import Coins, Floats, Numbers, Population, TraderConfig, trader
from abm.agents.view import Book, View
from abm.clearing.bids import Bids
from abm.clearing.lending import DELEVERAGING, SEIZURE, LendingPool, Pool
from abm.contagion.graph import Edge, holders
from abm.exchange.description import MONEY_UNITS, NS, Fraction, Frozen, Positive
from abm.exchange.messages import Reason, Records, Side, TimeInForce, join

_LOOK_AGAIN = 3600 * NS  # the riskiest loan is found anew after so long, as interest brings all nearer
_DAY = 86_400.0
_NEAR = 1.01  # liquidators look closer when the price is within one hundredth of the riskiest loan's


class Band(Frozen):
    """Loans that are liquidated near one price."""

    price: Positive = Field(description="liquidation price, currency a coin", examples=[2200])
    share: Fraction = Field(description="share of the ordinary borrowers' collateral", examples=[0.1])


class Beside(Frozen):
    """What a large borrower holds beside the pool, and sells before he touches his collateral."""

    instrument: str = Field(description="another instrument of kind spot", examples=["eth-spot"])
    coins: Positive = Field(description="coins or shares of it", examples=[1000])


class LargeBorrower(Frozen):
    """One large borrower who sells what he has beside the pool, then collateral, and repays before he is liquidated."""

    coins: Positive = Field(description="collateral, in coins", examples=[600_000])
    health: float = Field(1.4, gt=1, description="health factor at the start", examples=[1.4])
    trigger: float = Field(1.3, ge=1, description="health below which he begins to sell", examples=[1.3])
    target: float = Field(1.5, ge=1, description="health at which he stops", examples=[1.5])
    pace: Positive = Field(
        102_000.0,
        description="most coins sold in a day; of another asset as much as they are worth",
        examples=[102_000],
    )
    beside: Beside | None = Field(
        None,
        description="another asset, which he sells first; none where it is left out",
        examples=[{"instrument": "eth-spot", "coins": 1000}],
    )

    @model_validator(mode="after")
    def _in_order(self) -> "LargeBorrower":
        if self.target < self.trigger:
            raise ValueError("target must not be below trigger: he would stop before he begins")
        return self


class LendingPoolConfig(TraderConfig):
    """A lending pool and all who use it."""

    accounts: int = Field(
        300,
        ge=0,
        le=1_000_000,
        description="accounts: one for all suppliers, those of liquidators, and one for each borrower",
        examples=[300],
    )
    pool: Pool = Field(
        Pool(collateral="btc-spot"), description="terms; the collateral is `instrument` where it is left out"
    )
    locked: float = Field(
        20e6, ge=0, description="value of ordinary borrowers' collateral at the start, currency", examples=[6.14e9]
    )
    share: float = Field(
        1.0, gt=0, le=1, description="part of `locked` and of large borrowers that is simulated", examples=[0.1]
    )
    size_sigma: float = Field(
        1.5, ge=0, le=4, description="standard deviation of the logarithm of their collateral", examples=[1.5]
    )
    health_lowest: float = Field(1.02, gt=1, le=10, description="least health factor at the start", examples=[1.02])
    health_median: float = Field(1.6, gt=1, le=100, description="median health factor at the start", examples=[1.6])
    health_sigma: float = Field(
        1.0,
        ge=0,
        le=4,
        description="standard deviation of the logarithm of what health is above its lowest",
        examples=[1.0],
    )
    bands: tuple[Band, ...] = Field((), description="loans that are liquidated near given prices, out of all")
    band_spread: float = Field(
        0.005, ge=0, lt=0.5, description="standard deviation of the logarithm of prices within a band", examples=[0.005]
    )
    large: tuple[LargeBorrower, ...] = Field((), description="large borrowers, besides the ordinary ones")
    utilisation: Fraction = Field(0.8, description="part of what is supplied that is lent", examples=[0.8])
    liquidators: int = Field(4, ge=0, le=1000, description="accounts of liquidators", examples=[4])
    liquidator_cash: float = Field(2e6, ge=0, description="currency that each starts with", examples=[2e6])
    slippage: float = Field(
        0.02, gt=0, lt=0.5, description="no sale further than this fraction from the mid", examples=[0.02]
    )

    @property
    def traded(self) -> tuple[str, ...]:
        """The collateral, and what large borrowers hold beside it."""
        return tuple(dict.fromkeys([self.instrument, *(who.beside.instrument for who in self.large if who.beside)]))

    @model_validator(mode="before")
    @classmethod
    def _same_collateral(cls, raw: object) -> object:
        if not isinstance(raw, Mapping) or not isinstance(raw.get("pool", {}), Mapping):
            return raw
        coin = raw.get("instrument", cls.model_fields["instrument"].default)
        return {**raw, "pool": {"collateral": coin, **raw.get("pool", {})}}

    @model_validator(mode="after")
    def _makes_sense(self) -> "LendingPoolConfig":
        if self.pool.collateral != self.instrument:
            raise ValueError(
                f"pool.collateral is {self.pool.collateral!r} but instrument {self.instrument!r}; give one"
            )
        least = 1 + self.liquidators + len(self.large)
        if 0 < self.accounts <= least:
            raise ValueError(
                f"accounts must be more than {least}: a supplier, liquidators, large borrowers, and others"
            )
        if any(who.beside and who.beside.instrument == self.instrument for who in self.large):
            raise ValueError(f"large: beside must not be {self.instrument}, the collateral; name another instrument")
        if self.health_median <= self.health_lowest:
            raise ValueError("health_median must be above health_lowest")
        if sum(band.share for band in self.bands) > 1:
            raise ValueError("bands: their shares must not add up to more than 1")
        return self


@trader("lending_pool")
class PoolUsers(Population):
    """A pool and the accounts of all who use it: the supplier first, then liquidators, large borrowers, and ordinary ones."""

    channel = "collateral"
    config: LendingPoolConfig
    pool: LendingPool
    """The pool; it has what is deposited and supplied."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open()

    def setup(self) -> None:
        """Draw who has borrowed how much, and wake at each block."""
        c = self.config
        for other in self.model.populations:
            if isinstance(other, PoolUsers) and other is not self and other.config.pool.name == c.pool.name:
                raise ValueError(f"{self.name}: {other.name} has a pool of the same name; set pool.name")
        first = 1 + c.liquidators
        everyone = np.arange(self.size)
        self.liquidators, self.borrowers = everyone[1:first], everyone[first:]
        """Accounts, counted from 0 within the population; borrowers with large ones first."""
        self._large = everyone[first : first + len(c.large)]
        price = self.model.view()[c.instrument].mid
        self._index = self.model.exchange.index(c.instrument)
        lot = self._instruments[self._index].lot
        large = np.array([(who.coins, who.health) for who in c.large]).reshape(-1, 2)[: len(self._large)]
        coins, health = self._ordinary(len(self.borrowers) - len(large), price)
        coins = np.append(large[:, 0] * c.share, coins)
        self._coins = np.floor(coins / lot + 1e-6) * lot
        self._loans = self._coins * price * c.pool.liquidation_threshold / np.append(large[:, 1], health)
        self._price = price
        self._seizures: list[Records] = []
        self._deleveraged: list[Records] = []
        self._selling = False
        self._acting = {k: False for k, who in enumerate(c.large[: len(self._large)]) if who.beside}
        """Large borrowers who have something beside the pool, and whether they are selling it."""
        self._repaid_beside = 0
        self._every = max(c.pool.block, self.model.scenario.clock.step)
        self.wake_every(self._every, start=self.model.seconds)

    def _ordinary(self, n: int, price: float) -> tuple[Floats, Floats]:
        """Collateral in coins and health factor of ordinary borrowers; bands are filled by collateral, one after the other."""
        c = self.config
        size = np.exp(c.size_sigma * self.random("size").standard_normal(n))
        size /= size.sum()
        spread = self.random("health").standard_normal(n)
        health = c.health_lowest + (c.health_median - c.health_lowest) * np.exp(c.health_sigma * spread)
        filled, ends = np.cumsum(size) - size / 2.0, np.cumsum([band.share for band in c.bands])
        within = np.searchsorted(ends, filled)
        for k, band in enumerate(c.bands):
            if band.price * c.health_lowest > price:
                raise ValueError(
                    f"{self.name}: bands: loans due at {band.price:g} are gone at {price:g}; leave the band out"
                )
            mine = within == k
            health[mine] = np.maximum(c.health_lowest, price / band.price * np.exp(c.band_spread * spread[mine]))
        return c.locked * c.share / price * size, health

    def endow(self) -> tuple[Numbers, Coins]:
        """What is about to be supplied and deposited, the liquidators' cash, and what large borrowers hold beside the pool."""
        cash, coins = np.zeros(self.size), np.zeros(self.size)
        cash[:1] = self._loans.sum() / self.config.utilisation
        cash[self.liquidators] = self.config.liquidator_cash
        coins[self.borrowers] = self._coins
        held = {name: np.zeros(self.size) for name in self.config.traded} | {self.config.instrument: coins}
        for who, large in zip(self._large, self.config.large, strict=False):
            if large.beside:
                held[large.beside.instrument][who] = large.beside.coins * self.config.share
        return cash, held

    def _open(self) -> None:
        """Make the loans, at a price at which all of them could be made, and spend what was borrowed."""
        c, model = self.config, self.model
        terms, rows = c.pool, self.rows[self.borrowers]
        most = np.divide(self._loans, self._coins, out=np.zeros(len(rows)), where=self._coins > 0).max(initial=0.0)
        then = max(self._price, most / terms.loan_to_value * (1.0 + 1e-4))
        block = round(terms.block * NS)
        self.pool = LendingPool(model.exchange, model.house, terms, then, model.time_ns - block)
        self.pool.supply(self.rows[:1], self.free_cash(np.arange(min(1, self.size))))
        self.pool.deposit(rows, self._coins)
        self.pool.borrow(rows, self._loans)
        model.house.debit(rows, f"{self.name}: loans spent elsewhere", cash=self._loans)
        for k in range(len(self._large)):
            if k not in self._acting:
                self._set_rule(k)
        # All this was a while ago: the oracle is due to look at the market
        self.pool.oracle.moved -= round(terms.heartbeat * NS)
        self.pool.block(model.time_ns, self._price)
        self._before = self._price
        self._find_riskiest(model.time_ns)

    def _set_rule(self, k: int) -> None:
        """Have the pool sell a large borrower's collateral by his rule."""
        large = self.config.large[k]
        self.pool.set_rule(self.rows[self._large[k]], large.trigger, large.target, pace=large.pace * self.config.share)

    def decide(self, view: View) -> Records | None:
        """What a block's liquidations and large borrowers make it sell; nothing as long as there are none."""
        book = view[self.config.instrument]
        sold = [self._sell_beside(view, k) for k in tuple(self._acting)]
        if view.time_ns >= self._look_again:
            self._find_riskiest(view.time_ns)
        near = min(book.mid, self._before, self.oracle) < self._riskiest * _NEAR
        liquidators = self.rows[self.liquidators] if near else ()
        bids = Bids.of(self.model.exchange, self.config.instrument) if near else None
        block = self.pool.block(view.time_ns, book.mid, liquidators, bids)
        self._before = book.mid
        if len(block.seizures) or len(block.deleveraged):
            self._seizures.append(block.seizures)
            self._deleveraged.append(block.deleveraged)
            self._find_riskiest(view.time_ns)
            self._selling = True
        orders = [order for order in sold if order is not None] + (self._sales(book) if self._selling else [])
        return join(orders) if orders else None

    def _sell_beside(self, view: View, k: int) -> Records | None:
        """Repay with what a large borrower has sold beside the pool, and sell as much more as is missing, at most at his pace.

        He begins below his trigger. Of a debt D at health h, D (1 - h / H) is missing to his target H. Once all is sold, the pool's rule goes on
        with collateral.
        """
        large, who = self.config.large[k], self._large[k : k + 1]
        assert large.beside is not None
        row, book = self.rows[who], view[large.beside.instrument]
        health = self.pool.health(row)[0]
        self._acting[k] = bool(health < (large.target if self._acting[k] else large.trigger))
        if not self._acting[k]:
            return None
        missing = self.pool.debt(row)[0] / MONEY_UNITS * (1.0 - health / large.target)
        paid = min(missing, self.free_cash(who)[0])
        self._repaid_beside += int(self.pool.repay(row, paid)[0])
        self._acting[k] = bool(paid < missing)
        held = self.free_holdings(book.instrument.name, who)
        if not held[0]:
            del self._acting[k]
            self._set_rule(k)
        most = large.pace * self.config.share * self._every / _DAY * self.oracle
        lots = np.ceil(min(missing - paid, most) / (book.mid * book.instrument.lot))
        quantity = np.minimum(lots * book.instrument.lot, held)
        terms = {"reason": Reason.DELEVERAGING, "slippage": self.config.slippage}
        return self.market(book, Side.SELL, quantity, who=who, **terms)

    @property
    def oracle(self) -> float:
        """The oracle's price, currency a coin."""
        return self.pool.oracle.price / (self._instruments[self._index].lot * MONEY_UNITS)

    def _find_riskiest(self, now_ns: int) -> None:
        """Note the highest price at which a loan is liquidated, so that most blocks need not look for one."""
        prices = self.pool.liquidation_price(self.rows[self.borrowers])
        self._riskiest = float(np.fmax.reduce(prices, initial=0.0))
        self._look_again = now_ns + _LOOK_AGAIN

    def _sales(self, book: Book) -> list[Records]:
        """Orders for all coins that liquidators and large borrowers have out of the pool: what found no bid before is offered again."""
        seized, taken = (self.free_holdings(who=who) for who in (self.liquidators, self._large))
        if not seized.any() and not taken.any():
            self._selling = False
            return []
        held = np.maximum(self.model.position[self.rows[self.liquidators], self._index], 1)
        paid = self.model.exchange.accounts.basis[self.rows[self.liquidators], self._index] / MONEY_UNITS
        # Below its cost a seized coin is sold at a loss; far below the mid venues refuse orders
        floor = np.maximum(paid / (held * book.instrument.lot), book.mid * (1.0 - self.config.slippage))
        terms = {"reason": Reason.LIQUIDATION, "tif": TimeInForce.IOC}
        return [
            self.limit_sell(book, floor, seized, who=self.liquidators, **terms),
            self.market(
                book, Side.SELL, taken, who=self._large, reason=Reason.DELEVERAGING, slippage=self.config.slippage
            ),
        ]

    # ------------------------------------------------------------------ what it did

    @property
    def seizures(self) -> Records:
        """All liquidations; records of `SEIZURE`."""
        return join(self._seizures, SEIZURE)

    @property
    def deleveraged(self) -> Records:
        """All that large borrowers repaid and took out by the rule of the pool; records of `DELEVERAGING`."""
        return join(self._deleveraged, DELEVERAGING)

    def elsewhere(self, has: Floats) -> None:
        """Claims of the supplier and collateral of borrowers, less their debts, in currency."""
        if self.size == 0:
            return
        mid = self.model.view()[self.config.instrument].mid
        has[self.rows] += self.pool.collateral(self.rows) * self._instruments[self._index].lot * mid
        has[self.rows] += (self.pool.claim(self.rows) - self.pool.debt(self.rows)) / MONEY_UNITS

    def links(self) -> Iterator[Edge]:
        """Asset to pool: collateral; pool to borrower: debt; borrower to assets: what he may sell, collateral or beside it. In currency, at mids."""
        asset, pool, locked = self.model.view()[self.config.instrument], f"pool:{self.config.pool.name}", 0.0
        beside = {what: worth for what, worth in self.carries().items() if what != self.config.instrument}
        for name, owner, rows in holders(self.model):
            worth = float(self.pool.collateral(rows).sum()) * asset.instrument.lot * asset.mid if owner is self else 0.0
            if worth > 0.0:
                locked += worth
                yield Edge(pool, name, float(self.pool.debt(rows).sum()) / MONEY_UNITS)
                yield Edge(name, self.config.instrument, worth)
                held = {what: float(each[rows - self.first].sum()) for what, each in beside.items()}
                yield from (Edge(name, what, amount) for what, amount in held.items() if amount > 0.0)
        if locked > 0.0:
            yield Edge(self.config.instrument, pool, locked)

    def faults(self) -> tuple[str, ...]:
        """What the audit of the pool found."""
        return self.pool.audit().faults

    def about(self) -> Mapping[str, Any]:
        """The pool in numbers: coins, and currency."""
        lot, seizures = self._instruments[self._index].lot, self.seizures
        return {
            "liquidations": len(seizures),
            "seized": int(seizures["seized"].sum()) * lot,
            "repaid_by_liquidators": int(seizures["repaid"].sum()) / MONEY_UNITS,
            "bad_debt": int(seizures["bad_debt"].sum()) / MONEY_UNITS,
            "deleveraged": int(self.deleveraged["lots"].sum()) * lot,
            "repaid_beside": self._repaid_beside / MONEY_UNITS,
            "collateral": int(self.pool.collateral(self.rows).sum()) * lot,
            "lent": self.pool.lent / MONEY_UNITS,
        }
