"""On-chain lending: cash lent against coins from a pool, by the rules of a contract, block by block. The rule book is docs/concepts/lending.md.

An account of the exchange has at most one loan in a pool. What it deposits, borrows and supplies crosses through the ledger, and every
unit stands either in an account or in the pool. All sums are whole money units and lots; a debt is a number of shares times an index that
interest makes grow, the same for all, so that interest changes nobody's place in the order of liquidation.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from abm.clearing.bids import Bids, Sale
from abm.clearing.ledger import Ledger
from abm.clearing.oracle import Oracle
from abm.clearing.ranking import Ranking
from abm.clearing.transfers import Ints, Rows, Transfers, sales
from abm.exchange.description import MONEY_UNITS, NS, PPM, Fraction, Frozen, Positive
from abm.exchange.exchange import Exchange
from abm.exchange.messages import Reason, Records

Floats = npt.NDArray[np.float64]

RAY = 10**27
_RATE = 10**9
_YEAR_NS = 365 * 86_400 * NS
_MOST_SHARES = 2**62
_BAND = 1e-12  # ranks are floats: nearer than that to the threshold, whole numbers decide

SEIZURE = np.dtype(
    [
        ("time", np.int64),  # ns: of the block
        ("block", np.int64),
        ("repaid", np.int64),  # money units that the liquidator paid
        ("seized", np.int64),  # lots that it got
        ("price", np.int64),  # money units a lot: the oracle's
        ("gain", np.int64),  # money units: the seized lots at the oracle's price, less what was repaid
        ("bad_debt", np.int64),  # money units that no collateral is left for: a default
        ("from_reserve", np.int64),  # of it paid by the reserve
        ("from_suppliers", np.int64),  # of it paid by all suppliers in proportion
        ("health", np.float64),  # before
        ("borrower", np.int32),
        ("liquidator", np.int32),
    ],
    align=True,
)
"""A liquidation in a pool."""

DELEVERAGING = np.dtype(
    [
        ("time", np.int64),
        ("block", np.int64),
        ("repaid", np.int64),  # money units, from the account's free cash
        ("lots", np.int64),  # withdrawn, to be sold
        ("health", np.float64),  # before
        ("account", np.int32),
    ],
    align=True,
)
"""What a borrower did by its own rule."""


class Pool(Frozen):
    """Terms of a pool that lends cash against one kind of coins. Rates are kept in millionths."""

    name: str = Field(
        "pool", pattern=r"^[a-z][a-z0-9-]*$", description="what tables and the network call it", examples=["eth-pool"]
    )
    collateral: str = Field(description="spot instrument whose coins secure the loans", examples=["eth-spot"])
    loan_to_value: Fraction = Field(0.80, description="most that is lent, as a fraction of the collateral's value")
    liquidation_threshold: Fraction = Field(
        0.83, description="fraction of the collateral's value that counts in health"
    )
    bonus: float = Field(0.05, ge=0, lt=1, description="a liquidator gets collateral worth so much more than it repays")
    close_factor: float = Field(
        0.5, gt=0, le=1, description="most that one liquidation repays, as a fraction of the debt"
    )
    full_below: float = Field(0.95, ge=0, le=1, description="below this health all may be repaid at once")
    block: Positive = Field(12.0, description="seconds between blocks")
    deviation: float = Field(
        0.005, ge=0, lt=1, description="the oracle moves when the market is further from it than this fraction"
    )
    heartbeat: Positive = Field(3600.0, description="seconds after which the oracle moves in any case")
    rate: float = Field(0.03, ge=0, lt=10, description="interest a year, compounded every block")
    reserve_factor: float = Field(0.10, ge=0, le=1, description="fraction of the interest that the reserve keeps")
    gas: float = Field(20.0, ge=0, description="what a liquidation costs the liquidator besides, in currency")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.loan_to_value > self.liquidation_threshold:
            raise ValueError("loan_to_value must not be above liquidation_threshold: a new loan would be due at once")
        if self.liquidation_threshold * (1 + self.bonus) >= 1:
            raise ValueError("liquidation_threshold x (1 + bonus) must be below 1: a liquidation would lower health")
        return self


class Block(NamedTuple):
    """What happened in the blocks since the last call: records of `SEIZURE` and `DELEVERAGING`."""

    seizures: Records
    deleveraged: Records


@dataclass(frozen=True, slots=True)
class PoolAudit:
    """What an audit of a pool found. Cash and lots in the pool are compared with the ledger's entries, debts with the flows that made them."""

    cash: int
    """Money units in the pool."""
    cash_entered: int
    """Money units that by the ledger went there."""
    lots: int
    """Lots of all borrowers' collateral."""
    lots_entered: int
    """Lots that by the ledger went there."""
    lent: int
    """Money units owed to the pool."""
    flows: dict[str, int] = field(default_factory=dict)
    """Money units lent, earned, repaid, lost, and gained by rounding since the start."""
    faults: tuple[str, ...] = ()
    """One line for each thing that is wrong; empty if nothing is."""

    @property
    def residue(self) -> int:
        """Money units and lots that are missing or too many."""
        f = self.flows
        owed = f["lent"] + f["interest"] + f["rounding"] - f["repaid"] - f["lost"]
        return abs(self.cash - self.cash_entered) + abs(self.lots - self.lots_entered) + abs(self.lent - owed)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


class LendingPool:
    """Loans of cash against coins, to accounts of an exchange.

    Suppliers' and borrowers' verbs take accounts (each at most once) and amounts in currency or coins, one for all or one for each. Each
    either does all that it is asked, or raises a ValueError that names an account, and does nothing.

    Args:
        exchange: Where the accounts are.
        ledger: Its ledger or clearing house.
        pool: The terms.
        price: The oracle's first price, in currency a coin.
        start_ns: Blocks are counted from time 0; those until this time are over.

    Raises:
        ValueError: The collateral is not of kind spot, or the price is not above 0.
    """

    def __init__(self, exchange: Exchange, ledger: Ledger, pool: Pool, price: float, start_ns: int = 0) -> None:
        self.pool = pool
        self._exchange, self._index_of = exchange, exchange.index(pool.collateral)
        self._coin = exchange.instruments[self._index_of]
        if self._coin.kind != "spot":
            raise ValueError(f"pool {pool.name}: collateral must be spot, and {pool.collateral} is {self._coin.kind}")
        self._moves = Transfers(exchange, ledger, pool.name, pool.collateral)
        accounts = len(exchange.accounts.cash)
        # Borrowers: collateral, debt, and their rules. Suppliers: their part
        self._lots, self._shares, self._parts = (np.zeros(accounts, np.int64) for _ in range(3))
        self._trigger, self._target, self._floor = (np.zeros(accounts) for _ in range(3))
        self._pace = np.zeros(accounts, np.int64)  # most lots a block
        self._acting: set[int] = set()
        self._by_health, self._by_trigger = Ranking(), Ranking()
        self._ray = RAY
        self._all_shares = self._all_parts = 0
        self._loan_ppm, self._threshold_ppm = round(pool.loan_to_value * PPM), round(pool.liquidation_threshold * PPM)
        self._bonus_ppm, self._close_ppm = round(pool.bonus * PPM), round(pool.close_factor * PPM)
        self._block_ns = round(pool.block * NS)
        self._flows = dict.fromkeys(("lent", "interest", "rounding", "repaid", "lost"), 0)
        self._number, self._accrued_until, self._market = start_ns // self._block_ns, start_ns, self._per_lot(price)
        self.oracle = Oracle(self._market, pool.deviation, round(pool.heartbeat * NS))
        self.oracle.moved = start_ns
        self.cash = 0
        """Money units in the pool."""
        self.reserve = 0
        """Money units of all that the pool has that are its own, and pay for bad debt first."""
        self.visited = 0
        """Loans that the last call of `block` looked at."""

    def _per_lot(self, price: float) -> int:
        return int(np.floor(price * self._coin.lot * MONEY_UNITS + 0.5)) if price > 0 else 0

    # ------------------------------------------------------------------ what stands in the pool

    @property
    def lent(self) -> int:
        """Money units that borrowers owe, all together."""
        return self._all_shares * self._ray // RAY

    @property
    def suppliers_assets(self) -> int:
        """Money units that belong to the suppliers, in the pool or lent out."""
        return self.cash + self.lent - self.reserve

    def debt(self, who: npt.ArrayLike) -> Ints:
        """Money units that accounts owe, rounded up."""
        owed = -(-self._shares[self._moves.rows(who)].astype(object) * self._ray // RAY)
        return np.asarray(owed, np.int64)

    def collateral(self, who: npt.ArrayLike) -> Ints:
        """Lots that accounts have deposited."""
        return self._lots[self._moves.rows(who)].copy()

    def claim(self, who: npt.ArrayLike) -> Ints:
        """Money units that belong to accounts as suppliers, rounded down."""
        parts = self._parts[self._moves.rows(who)].astype(object)
        return np.asarray(parts * self.suppliers_assets // max(1, self._all_parts), np.int64)

    def health(self, who: npt.ArrayLike) -> Floats:
        """Health factor: what the collateral counts for over the debt; liquidatable below 1, infinite without a debt."""
        return np.array([self._health(int(loan)) for loan in self._moves.rows(who)], np.float64)

    def liquidation_price(self, who: npt.ArrayLike) -> Floats:
        """Oracle price in currency a coin below which accounts are liquidatable; nan without a debt."""
        rows = self._moves.rows(who)
        shares, lots = self._shares[rows].astype(np.float64), self._lots[rows] * self._coin.lot
        owed = shares * (self._ray / RAY) / MONEY_UNITS
        counts = lots * self._threshold_ppm / PPM
        return np.where(shares > 0, owed / np.where(counts > 0, counts, np.nan), np.nan)

    def _health(self, loan: int) -> float:
        counts, owed = self._counts(loan)
        return counts / owed if owed else float("inf")

    def _counts(self, loan: int) -> tuple[int, int]:
        """Collateral times liquidation threshold, and debt, in a common unit: whole numbers, so that nothing is decided by rounding."""
        counts = int(self._lots[loan]) * self.oracle.price * self._threshold_ppm * RAY
        return counts, int(self._shares[loan]) * self._ray * PPM

    def _due_rank(self) -> float:
        """Shares a lot above which a loan is liquidatable."""
        return self.oracle.price * self._threshold_ppm * RAY / (self._ray * PPM)

    # ------------------------------------------------------------------ verbs of suppliers

    def supply(self, who: npt.ArrayLike, cash: npt.ArrayLike) -> None:
        """Lend cash to the pool, for a part of what the suppliers have."""
        rows = self._moves.rows(who)
        units = self._moves.units(rows, cash)
        assets, total = self.suppliers_assets, self._all_parts
        if total and not assets:
            raise ValueError(f"{self.pool.name}: nothing is left of what was supplied; nobody can join")
        parts = units.astype(object) * total // assets if total else units.astype(object)
        if total + sum(parts) > _MOST_SHARES:
            raise ValueError(f"{self.pool.name}: account {rows[0]}: so much against so little left cannot be counted")
        self._moves.take(rows, "supply", units=units)
        self._parts[rows] += parts.astype(np.int64)
        self._all_parts += int(sum(parts))
        self.cash += int(units.sum())

    def redeem(self, who: npt.ArrayLike, cash: npt.ArrayLike | None = None) -> Ints:
        """Take supplied cash and what it earned back; all of it where no amount is given. Returns money units."""
        rows = self._moves.rows(who)
        claims = self.claim(rows)
        units = claims if cash is None else self._moves.units(rows, cash)
        self._refuse(rows, units > claims, "has not so much in the pool")
        if int(units.sum()) > self.cash:
            raise ValueError(
                f"{self.pool.name}: account {rows[0]}: the pool has {self.cash} money units; the rest is lent"
            )
        assets = max(1, self.suppliers_assets)
        parts = np.asarray(-(-units.astype(object) * self._all_parts // assets), np.int64)
        parts = self._parts[rows].copy() if cash is None else parts
        self._moves.give(rows, "supply", units=units)
        self._parts[rows] -= parts
        self._all_parts -= int(parts.sum())
        self.cash -= int(units.sum())
        return units

    def contribute(self, who: npt.ArrayLike, cash: npt.ArrayLike) -> None:
        """Give cash to the reserve."""
        rows = self._moves.rows(who)
        units = self._moves.units(rows, cash)
        self._moves.take(rows, "reserve", units=units)
        self.cash += int(units.sum())
        self.reserve += int(units.sum())

    # ------------------------------------------------------------------ verbs of borrowers

    def deposit(self, who: npt.ArrayLike, coins: npt.ArrayLike) -> None:
        """Put coins into the pool as collateral."""
        rows = self._moves.rows(who)
        lots = self._moves.lots(rows, coins)
        self._moves.take(rows, "collateral", lots=lots)
        self._lots[rows] += lots
        self._rank(rows)

    def withdraw(self, who: npt.ArrayLike, coins: npt.ArrayLike) -> None:
        """Take collateral back, as far as health stays at least 1."""
        rows = self._moves.rows(who)
        lots = self._moves.lots(rows, coins)
        self._refuse(rows, lots > self._lots[rows], "has not so much collateral")
        left = (self._lots[rows] - lots).astype(object)
        self._refuse(rows, ~self._covered(left, self._shares[rows], self._threshold_ppm), "would have a health below 1")
        self._moves.give(rows, "collateral", lots=lots)
        self._lots[rows] -= lots
        self._rank(rows)

    def borrow(self, who: npt.ArrayLike, cash: npt.ArrayLike) -> None:
        """Borrow cash, as far as the debt stays within the loan-to-value."""
        rows = self._moves.rows(who)
        units = self._moves.units(rows, cash)
        shares = np.asarray(-(-units.astype(object) * RAY // self._ray), np.int64)
        covered = self._covered(self._lots[rows].astype(object), self._shares[rows] + shares, self._loan_ppm)
        self._refuse(rows, ~covered, f"would owe more than {self.pool.loan_to_value:.4g} of its collateral")
        total = int(units.sum())
        if total > self.cash:
            raise ValueError(
                f"{self.pool.name}: account {rows[0]}: the pool has {self.cash} money units; the rest is lent"
            )
        self._moves.give(rows, "loan", units=units)
        self.cash -= total
        before = self.lent
        self._shares[rows] += shares
        self._all_shares += int(shares.sum())
        self._flows["lent"] += total
        self._flows["rounding"] += self.lent - before - total
        self._rank(rows)

    def repay(self, who: npt.ArrayLike, cash: npt.ArrayLike | None = None) -> Ints:
        """Pay back, at most what is owed; all of it where no amount is given. Returns money units paid."""
        rows = self._moves.rows(who)
        owed = self.debt(rows)
        units = owed if cash is None else np.minimum(self._moves.units(rows, cash), owed)
        self._moves.take(rows, "loan", units=units)
        for loan, paid in zip(rows.tolist(), units.tolist(), strict=True):
            self._repaid(loan, paid)
        self._rank(rows)
        return units

    def set_rule(
        self,
        who: npt.ArrayLike,
        trigger: npt.ArrayLike,
        target: npt.ArrayLike,
        *,
        floor: npt.ArrayLike = 1.02,
        pace: npt.ArrayLike = 1e9,
    ) -> None:
        """Let borrowers deleverage by themselves: below `trigger` in health they repay and sell collateral until `target` is reached.

        Args:
            who: Accounts. They should hold nothing else: all their free cash repays, and their coins count as being sold.
            trigger: Health; 0 for no rule.
            target: Health, not below the trigger.
            floor: Health below which no collateral is taken out to be sold.
            pace: Most coins taken out in a day.
        """
        rows = self._moves.rows(who)
        values = [np.broadcast_to(np.asarray(x, np.float64), rows.shape) for x in (trigger, target, floor, pace)]
        least, aim, lowest, coins = values
        wrong = (least != 0) & ~((least >= 1) & (aim >= least) & (lowest >= 1) & (coins > 0))
        self._refuse(rows, wrong | ~np.isfinite(sum(values)), "needs 1 <= trigger <= target, floor >= 1 and pace > 0")
        self._trigger[rows], self._target[rows], self._floor[rows] = least, aim, lowest
        blocks = 86_400 * NS / self._block_ns
        self._pace[rows] = np.minimum(np.ceil(coins / self._coin.lot / blocks - 1e-9), 2.0**60).astype(np.int64)
        self._acting.difference_update(rows.tolist())
        self._rank(rows)

    def _refuse(self, rows: Rows, wrong: npt.NDArray[np.bool_], why: str) -> None:
        if wrong.any():
            raise ValueError(f"{self.pool.name}: account {rows[np.flatnonzero(wrong)[0]]} {why}")

    def _covered(self, lots: Any, shares: Ints, ppm: int) -> npt.NDArray[np.bool_]:
        """Whether a debt is at most a fraction of the value of lots."""
        return np.asarray(shares.astype(object) * self._ray * PPM <= lots * self.oracle.price * ppm * RAY, np.bool_)

    def _repaid(self, loan: int, units: int) -> None:
        """Book cash that came in for a loan."""
        shares, before = int(self._shares[loan]), self.lent
        all_of_it = units >= -(-shares * self._ray // RAY)
        self._retire(loan, shares if all_of_it else units * RAY // self._ray)
        self.cash += units
        self._flows["repaid"] += units
        self._flows["rounding"] += self.lent - before + units

    def _retire(self, loan: int, shares: int) -> None:
        self._shares[loan] -= shares
        self._all_shares -= shares

    def _rank(self, rows: Rows) -> None:
        """Put loans where they belong in the order of liquidation, and of deleveraging."""
        triggers = self._trigger[rows].tolist()
        triples = zip(rows.tolist(), self._shares[rows].tolist(), self._lots[rows].tolist(), strict=True)
        for (loan, shares, lots), trigger in zip(triples, triggers, strict=True):
            rank = shares / lots if lots else float("inf")
            if shares:
                self._by_health.put(loan, rank, shares)
            else:
                self._by_health.drop(loan)
            if shares and trigger and loan not in self._acting:
                self._by_trigger.put(loan, rank * trigger, shares)
            else:
                self._by_trigger.drop(loan)

    # ------------------------------------------------------------------ blocks

    def block(self, now_ns: int, mid: float, liquidators: npt.ArrayLike = (), bids: Bids | None = None) -> Block:
        """Do what happens in the blocks since the last call, up to now.

        In each block in turn: borrowers with a rule act; liquidators act on what was due at the end of the block before; interest accrues; the
        oracle looks at the market. Blocks before the last see the market of the call before.

        Args:
            now_ns: Time.
            mid: The market's price in currency a coin; nan where it has none.
            liquidators: Accounts that repay from their free cash and get collateral, each time that with the most cash.
            bids: What they could sell to; without them any amount at mid. They act only where that brings more than they repay, fees and gas.

        Raises:
            ValueError: Time goes back, or a liquidator has a loan here.
        """
        rows = np.zeros(0, np.int32) if np.size(liquidators) == 0 else self._moves.rows(liquidators)
        self._refuse(rows, self._shares[rows] > 0, "cannot liquidate: it has a loan itself")
        last = now_ns // self._block_ns
        if last < self._number:
            raise ValueError(f"{self.pool.name}: block {last} is before block {self._number}")
        market, sale = self._per_lot(mid), self._sale(mid, bids)
        seizures: list[tuple[Any, ...]] = []
        deleveraged: list[tuple[Any, ...]] = []
        self.visited = 0
        while self._number < last:
            self._number += 1
            time = self._number * self._block_ns
            deleveraged += self._deleverage(time)
            seizures += self._liquidate(time, rows, sale)
            self._accrue(time)
            self.oracle.update(time, market if self._number == last else self._market)
        self._market = market
        return Block(np.array(seizures, SEIZURE), np.array(deleveraged, DELEVERAGING))

    def _sale(self, mid: float, bids: Bids | None) -> Sale:
        if bids is None:
            price, lots = np.array([mid * self._coin.lot * MONEY_UNITS]), np.array([2.0**50])
        else:
            price, lots = np.asarray(bids.price, np.float64) * self._coin.unit, np.asarray(bids.quantity, np.float64)
        known = price > 0  # not so where the market has no price
        return Sale(price[known] * (1 - self._coin.fees[0].taker), lots[known])

    def _accrue(self, time: int) -> None:
        before, since = self.lent, time - self._accrued_until
        self._ray += self._ray * round(self.pool.rate * _RATE) * since // (_RATE * _YEAR_NS)
        self._accrued_until = time
        earned = self.lent - before
        self._flows["interest"] += earned
        self.reserve += earned * round(self.pool.reserve_factor * PPM) // PPM

    # ------------------------------------------------------------------ liquidation

    def _liquidate(self, time: int, rows: Rows, sale: Sale) -> list[tuple[Any, ...]]:
        """Let liquidators act on due loans, the worst health first, until cash or bids are used up."""
        records: list[tuple[Any, ...]] = []
        if not len(rows):
            return records
        cash = self._moves.free_cash(rows).tolist()
        paid, got = [0] * len(rows), [0] * len(rows)
        seen: list[int] = []
        for loan in self._due(seen, self._by_health):
            richest = max(range(len(cash)), key=cash.__getitem__)
            if self._lots_wanted(cash[richest], sale) < 1:
                break
            repaid, seized = self._terms(loan, cash[richest], sale)
            if seized < 1 or sale.proceeds(seized) <= repaid + self.pool.gas * MONEY_UNITS:
                continue
            sale.sold += seized
            cash[richest] -= repaid
            paid[richest] += repaid
            got[richest] += seized
            records.append(self._seize(time, loan, int(rows[richest]), repaid, seized))
        if records:
            cost = np.array(paid) / (np.maximum(got, 1) * self._coin.lot * MONEY_UNITS)
            self._moves.take(rows, "liquidation", units=np.array(paid))
            self._moves.give(rows, "liquidation", lots=np.array(got), cost=cost)
        self._rank(np.array(seen, np.int32))
        return records

    def _due(self, seen: list[int], ranking: Ranking) -> Iterator[int]:
        """Liquidatable loans in order. They are taken out of the ranking, and all that were looked at are added to `seen`."""
        threshold = self._due_rank() * (1 - _BAND)
        while (loan := ranking.take_above(threshold)) is not None:
            self.visited += 1
            seen.append(loan)
            counts, owed = self._counts(loan)
            if counts < owed:
                yield loan

    def _lots_wanted(self, cash: int, sale: Sale) -> int:
        """Lots that a liquidator with so much cash can pay for, and sell for more than it paid."""
        price, plus = self.oracle.price, PPM + self._bonus_ppm
        return min(cash * plus // (price * PPM), sale.lots_above(price * PPM / plus))

    def _terms(self, loan: int, cash: int, sale: Sale) -> tuple[int, int]:
        """What a liquidator would repay of a due loan, and the lots it would get."""
        price, plus, lots = self.oracle.price, PPM + self._bonus_ppm, int(self._lots[loan])
        counts, owed = self._counts(loan)
        debt = -(-owed // (RAY * PPM))
        all_at_once = counts * PPM < owed * round(self.pool.full_below * PPM)
        repaid = debt if all_at_once else max(1, debt * self._close_ppm // PPM)
        most = min(lots, sale.lots_above(price * PPM / plus))
        # What so many lots cost, rounded up: a liquidator never gets a lot that is not paid for
        repaid = min(repaid, cash, -(-most * price * PPM // plus))
        return repaid, min(most, repaid * plus // (price * PPM))

    def _seize(self, time: int, loan: int, liquidator: int, repaid: int, seized: int) -> tuple[Any, ...]:
        health = self._health(loan)
        self._lots[loan] -= seized
        self._repaid(loan, repaid)
        bad = from_reserve = 0
        if not self._lots[loan] and self._shares[loan]:
            before = self.lent
            self._retire(loan, int(self._shares[loan]))
            bad = before - self.lent
            from_reserve = min(self.reserve, bad)
            self.reserve -= from_reserve
            self._flows["lost"] += bad
        price = self.oracle.price
        gain = seized * price - repaid
        sums = (repaid, seized, price, gain, bad, from_reserve, bad - from_reserve)
        return (time, self._number, *sums, health, loan, liquidator)

    def seized_sales(self, seizures: Records, time: int) -> Records:
        """Orders by which liquidators sell what they got, at no less than it cost them; `MESSAGE` records.

        Args:
            seizures: Records of `block`.
            time: When they are sent, in ns.
        """
        cost = seizures["price"] * PPM / (PPM + self._bonus_ppm) / self._coin.unit
        limit = np.maximum(1, np.ceil(cost)).astype(np.int64)
        owners, lots = seizures["liquidator"], seizures["seized"]
        return sales(self._exchange, self._index_of, owners, lots, Reason.LIQUIDATION, time=time, limit=limit)

    # ------------------------------------------------------------------ deleveraging

    def _deleverage(self, time: int) -> list[tuple[Any, ...]]:
        """Let borrowers act by their rules, in order of their accounts."""
        threshold = self._due_rank()
        while (loan := self._by_trigger.take_above(threshold)) is not None:
            self._acting.add(loan)
        if not self._acting:
            return []
        rows = np.array(sorted(self._acting), np.int32)
        self.visited += len(rows)
        cash, held = (
            self._moves.free_cash(rows).tolist(),
            self._exchange.accounts.position[rows, self._index_of].tolist(),
        )
        records, paid, taken = [], np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        for k, loan in enumerate(rows.tolist()):
            health = self._health(loan)
            paid[k], taken[k] = self._own_terms(loan, cash[k], held[k])
            self._repaid(loan, int(paid[k]))
            self._lots[loan] -= taken[k]
            if paid[k] or taken[k]:
                records.append((time, self._number, paid[k], taken[k], health, loan))
            if self._health(loan) >= self._target[loan]:
                self._acting.discard(loan)
        self._moves.take(rows, "loan", units=paid)
        self._moves.give(rows, "collateral", lots=taken)
        self._rank(rows)
        return records

    def _own_terms(self, loan: int, cash: int, held: int) -> tuple[int, int]:
        """What a borrower repays and how many lots it takes out to sell, so that its health comes to its target."""
        counts, owed = self._counts(loan)
        if counts >= owed * self._target[loan]:
            return 0, 0
        debt, counts_units = -(-owed // (RAY * PPM)), counts / (RAY * PPM)
        target, threshold, price = float(self._target[loan]), self._threshold_ppm / PPM, self.oracle.price
        repaid = min(cash, debt, int(np.ceil(debt - counts_units / target)))
        debt -= repaid
        # (c - x) p t / (D - h p - x p) = H: x lots are to be sold besides the h that are out of the pool already, and all of it repays
        missing = target * (debt - held * price) - counts_units
        wanted = int(np.ceil(missing / (price * (target - threshold))))
        spare = int(self._lots[loan]) - int(np.ceil(float(self._floor[loan]) * debt / (price * threshold)))
        return repaid, max(0, min(wanted, spare, int(self._pace[loan])))

    def deleveraging_sales(self, deleveraged: Records, time: int, limit: npt.ArrayLike = 0) -> Records:
        """Orders by which borrowers sell what they took out; `MESSAGE` records.

        Args:
            deleveraged: Records of `block`.
            time: When they are sent, in ns.
            limit: Ticks below which not to sell; 0 for at any price.
        """
        owners, lots = deleveraged["account"], deleveraged["lots"]
        return sales(self._exchange, self._index_of, owners, lots, Reason.DELEVERAGING, time=time, limit=limit)

    # ------------------------------------------------------------------ audit

    def audit(self) -> PoolAudit:
        """Prove that every unit in the pool is accounted for, or name what is not.

        Checked: cash and lots are what by the ledger's entries went in and did not come out; debts are what was lent and earned, less what was repaid
        and lost; nothing is negative; nobody owes without collateral; suppliers and reserve have no more than there is.
        """
        entered, lots_entered = self._moves.entered()
        lots, faults = int(self._lots.sum()), []
        audit = PoolAudit(self.cash, entered, lots, lots_entered, self.lent, dict(self._flows))
        if self.cash != entered:
            faults.append(
                f"cash: {self.cash} in the pool are not the {entered} that went in ({self.cash - entered:+d})"
            )
        if lots != lots_entered:
            faults.append(f"collateral: {lots} lots are not the {lots_entered} that went in ({lots - lots_entered:+d})")
        for what, column, total in (("debts", self._shares, self._all_shares), ("parts", self._parts, self._all_parts)):
            if sum(column.tolist()) != total:
                faults.append(f"{what}: {sum(column.tolist())} shares of accounts are not the {total} in all")
            faults += [f"account {row}: {what} {column[row]}" for row in np.flatnonzero(column < 0)[:5]]
        faults += [f"account {row}: collateral {self._lots[row]}" for row in np.flatnonzero(self._lots < 0)[:5]]
        bare = np.flatnonzero((self._shares > 0) & (self._lots == 0))
        faults += [f"account {row}: owes without collateral" for row in bare[:5]]
        for what, amount in (("cash", self.cash), ("reserve", self.reserve), ("suppliers", self.suppliers_assets)):
            if amount < 0:
                faults.append(f"{what}: {amount}")
        if audit.residue and not faults:
            faults.append(f"debts: {self.lent} owed are not what was lent, earned, repaid and lost: {self._flows}")
        return PoolAudit(self.cash, entered, lots, lots_entered, self.lent, dict(self._flows), tuple(faults))
