"""A credit hub: an exchange, lender or clearing house that owes to many, and what happens when it fails.

A hub has a house account at the exchange, like anybody. Who deposits gives cash to that account and gets a claim; to whom the hub lends gets
cash from it and owes. So all cash is in accounts at all times, and every transfer has two sides. When a hub fails, a `Resolution` decides who
gets what, by the clearing vector of `abm.clearing.network` in whole money units. See docs/concepts/lending.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from abm.clearing.ledger import Ledger
from abm.clearing.network import clear
from abm.clearing.transfers import Ints, Rows, Transfers, sales
from abm.exchange.description import MONEY_UNITS, NS
from abm.exchange.exchange import Exchange
from abm.exchange.messages import MESSAGE, Kind, Reason, Records, join

Mode = Literal["collapse", "orderly"]

CLAIM = np.dtype(
    [
        ("time", np.int64),
        ("due", np.int64),  # money units
        ("paid", np.int64),
        ("lost", np.int64),  # written off: a default of the debtor that the creditor pays
        ("debtor", np.int32),
        ("creditor", np.int32),
        ("hub", np.int16),  # in whose books, by its place in the resolution
        ("is_loan", np.bool_),  # owed to that hub, or by it
    ],
    align=True,
)
"""One payment of a resolution, or what was written off instead."""

_ORDERS = (Kind.LIMIT, Kind.MARKET, Kind.REPLACE, Kind.STOP, Kind.STOP_LIMIT, Kind.TRAILING_STOP, Kind.PEGGED)


@dataclass(frozen=True, slots=True)
class HubAudit:
    """What an audit of a hub's books found."""

    claims: int
    """Money units that the hub owes."""
    loans: int
    """Money units owed to it."""
    flows: dict[str, int]
    """Money units that made claims and loans, and ended them, since the start."""
    cash_entered: int
    """Money units that by the ledger left accounts for this hub and did not come to another account: 0."""
    faults: tuple[str, ...] = ()
    """One line for each thing that is wrong; empty if nothing is."""

    @property
    def residue(self) -> int:
        """Money units that are missing or too many."""
        f = self.flows
        claims = self.claims - (f["deposited"] - f["withdrawn"] - f["claims lost"])
        loans = self.loans - (f["lent"] - f["repaid"] - f["loans lost"])
        return abs(claims) + abs(loans) + abs(self.cash_entered)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


class CreditHub:
    """The books of one institution: whom it owes and who owes it.

    Verbs take accounts (each at most once) and cash in currency, one amount for all or one for each. Each either does all that it is asked, or raises
    a ValueError that names an account, and does nothing.

    Args:
        exchange: Where the accounts are.
        ledger: Its ledger or clearing house.
        name: What tables and the ledger's entries call it.
        account: Its house account.
        custody: Accounts whose cash at the exchange is in its hands: frozen when it collapses, and then a claim like any other.
    """

    def __init__(
        self, exchange: Exchange, ledger: Ledger, name: str, account: int, custody: npt.ArrayLike = ()
    ) -> None:
        self.name, self.account = name, account
        self.exchange = exchange
        self.transfers = Transfers(exchange, ledger, name)
        self._house = self.transfers.rows([account])
        self.custody = np.zeros(0, np.int32) if np.size(custody) == 0 else self.transfers.rows(custody)
        self._not_itself(self.custody)
        accounts = len(exchange.accounts.cash)
        self.claims, self.loans = np.zeros(accounts, np.int64), np.zeros(accounts, np.int64)
        """Money units that it owes each account, and that each account owes it."""
        self.state: Literal["open", "frozen", "winding down", "closed"] = "open"
        self.flows = dict.fromkeys(("deposited", "withdrawn", "claims lost", "lent", "repaid", "loans lost"), 0)

    def deposit(self, who: npt.ArrayLike, cash: npt.ArrayLike) -> None:
        """Accounts give cash to the hub for a claim."""
        rows, units = self._asked(who, cash, "open")
        self._not_itself(rows)
        self._pay_in(rows, units, "deposit")
        self.claims[rows] += units
        self.flows["deposited"] += int(units.sum())

    def withdraw(self, who: npt.ArrayLike, cash: npt.ArrayLike) -> None:
        """Accounts get cash back: in full while the hub has some, also when it is winding down, not when it is frozen."""
        rows, units = self._asked(who, cash, "open", "winding down")
        self._refuse(rows, units > self.claims[rows], "has no such claim")
        self._refuse(
            rows, units.cumsum() > self.transfers.free_cash(self._house)[0], "cannot be paid: cash has run out"
        )
        self._pay_out(rows, units, "deposit")
        self.claims[rows] -= units
        self.flows["withdrawn"] += int(units.sum())

    def lend(self, who: npt.ArrayLike, cash: npt.ArrayLike) -> None:
        """Accounts get cash of the hub's and owe it."""
        rows, units = self._asked(who, cash, "open")
        self._not_itself(rows)
        self._refuse(rows, units.cumsum() > self.transfers.free_cash(self._house)[0], "cannot be lent so much")
        self._pay_out(rows, units, "loan")
        self.loans[rows] += units
        self.flows["lent"] += int(units.sum())

    def repay(self, who: npt.ArrayLike, cash: npt.ArrayLike) -> None:
        """Accounts pay back, at most what they owe."""
        rows, units = self._asked(who, cash, "open", "frozen", "winding down")
        units = np.minimum(units, self.loans[rows])
        self._pay_in(rows, units, "loan")
        self.loans[rows] -= units
        self.flows["repaid"] += int(units.sum())

    def fail(
        self,
        now_ns: int,
        mode: Mode = "collapse",
        *,
        duration: float = 0.0,
        others: Sequence["CreditHub"] = (),
    ) -> "Resolution":
        """Let the hub fail; what follows is done by the `Resolution`.

        Args:
            now_ns: Time.
            mode: `collapse`: withdrawals stop, what it has in custody is frozen, everything is sold at once and every claim is cut to what
                that brings. `orderly`: positions are closed and claims paid little by little; what cannot be paid is cut only at the end.
            duration: Seconds that an orderly end takes.
            others: Hubs that may fall with it.

        Raises:
            ValueError: It has failed already, or duration does not fit the mode.
        """
        return Resolution([self, *others], mode, now_ns, duration)

    def _asked(self, who: npt.ArrayLike, cash: npt.ArrayLike, *states: str) -> tuple[Rows, Ints]:
        rows = self.transfers.rows(who)
        if self.state not in states:
            raise ValueError(f"{self.name}: account {rows[0] if len(rows) else '-'}: the hub is {self.state}")
        return rows, self.transfers.units(rows, cash)

    def _not_itself(self, rows: Rows) -> None:
        self._refuse(rows, rows == self.account, "is the hub's own")

    def _refuse(self, rows: Rows, wrong: npt.NDArray[np.bool_], why: str) -> None:
        if wrong.any():
            raise ValueError(f"{self.name}: account {rows[np.flatnonzero(wrong)[0]]} {why}")

    def _pay_in(self, rows: Rows, units: Ints, why: str) -> None:
        self.transfers.take(rows, why, units=units)
        self.transfers.give(self._house, why, units=units.sum(keepdims=True))

    def _pay_out(self, rows: Rows, units: Ints, why: str) -> None:
        self.transfers.take(self._house, why, units=units.sum(keepdims=True))
        self.transfers.give(rows, why, units=units)

    def take_custody(self) -> None:
        """Turn the free cash of the accounts in custody into the hub's, and into claims on it."""
        units = self.transfers.free_cash(self.custody)
        self._pay_in(self.custody, units, "custody")
        self.claims[self.custody] += units
        self.flows["deposited"] += int(units.sum())

    def audit(self) -> HubAudit:
        """Prove that claims and loans are what made them less what ended them, and that no cash was lost on the way."""
        claims, loans, entered = int(self.claims.sum()), int(self.loans.sum()), self.transfers.entered()[0]
        faults = [f"account {row}: claim {self.claims[row]}" for row in np.flatnonzero(self.claims < 0)[:5]]
        faults += [f"account {row}: loan {self.loans[row]}" for row in np.flatnonzero(self.loans < 0)[:5]]
        audit = HubAudit(claims, loans, dict(self.flows), entered)
        if audit.residue:
            faults.append(f"{claims} of claims, {loans} of loans and {entered} under way do not fit {self.flows}")
        return HubAudit(claims, loans, dict(self.flows), entered, tuple(faults))


@dataclass(frozen=True, slots=True)
class _Debts:
    """What is due: one entry for each debtor, creditor and book."""

    debtor: npt.NDArray[np.int64]
    creditor: npt.NDArray[np.int64]
    units: Ints
    hub: npt.NDArray[np.int64]
    is_loan: npt.NDArray[np.bool_]


class Resolution:
    """The end of a hub, and of those that fall with it. `CreditHub.fail` makes it.

    At each step send `cancellations` once and `sales` to the exchange, then `settle`. `refused` is for the gateway (`frozen`).

    Args:
        hubs: The first has failed; the others fall when they cannot pay at the end what they owe to one that has.
        mode: See `CreditHub.fail`.
        start_ns: When it failed.
        duration: Seconds that an orderly end takes.

    Raises:
        ValueError: A hub has failed already, two have one account, or duration does not fit the mode.
    """

    def __init__(self, hubs: Sequence[CreditHub], mode: Mode, start_ns: int, duration: float = 0.0) -> None:
        if mode not in ("collapse", "orderly") or (mode == "orderly") != (duration > 0):
            raise ValueError(f"an orderly end needs a duration above 0, a collapse none: {mode}, {duration}")
        if len({hub.account for hub in hubs}) < len(hubs):
            raise ValueError("two hubs have one house account")
        for hub in hubs:
            if hub.state != "open":
                raise ValueError(f"{hub.name}: is {hub.state} already")
        self.hubs, self.mode, self.start_ns = tuple(hubs), mode, start_ns
        self._duration_ns = round(duration * NS)
        self._exchange = hubs[0].exchange
        self.failed: list[int] = []
        """Hubs that have failed, by place, in the order in which they did."""
        self.waves: list[tuple[str, ...]] = []
        """Names of those that failed at once, by round."""
        self.records: Records = np.zeros(0, CLAIM)
        """All that was paid and written off; records of `CLAIM`."""
        self.over = False
        # As they stand now, and for each hub that falls as they stand then
        self._claims, self._loans = [hub.claims.copy() for hub in hubs], [hub.loans.copy() for hub in hubs]
        self._lots = self._exchange.accounts.position[hubs[0].account].copy()  # what an orderly end sells by and by
        self._fall([0])

    def _fall(self, places: list[int]) -> None:
        """Hubs fail, all at once."""
        self.failed += places
        self.waves.append(tuple(self.hubs[k].name for k in places))
        for k in places:
            hub = self.hubs[k]
            hub.state = "frozen" if self.mode == "collapse" else "winding down"
            self._claims[k], self._loans[k] = hub.claims.copy(), hub.loans.copy()

    # ------------------------------------------------------------------ what is frozen

    @property
    def frozen(self) -> npt.NDArray[np.bool_]:
        """Accounts that can neither trade nor take anything out."""
        frozen = np.zeros(len(self._exchange.accounts.cash), np.bool_)
        if self.mode == "collapse" and not self.over:
            for k in self.failed:
                frozen[self.hubs[k].custody] = True
        frozen[[hub.account for hub in self.hubs]] = False
        return frozen

    def refused(self, messages: Records) -> npt.NDArray[np.bool_]:
        """Which messages the venue does not take: orders of frozen accounts. They may cancel."""
        owner = messages["owner"]
        frozen = np.append(self.frozen, False)  # the last is for those without an account
        known = np.where((owner >= 0) & (owner < len(frozen) - 1), owner, -1)
        return np.asarray(frozen[known] & np.isin(messages["kind"], _ORDERS))

    def cancellations(self, time: int) -> Records:
        """Messages that end the orders of frozen accounts and set free what they reserve."""
        owners = np.flatnonzero(self.frozen)
        messages = np.zeros(len(owners), MESSAGE)
        messages["kind"], messages["time"], messages["instrument"] = Kind.MASS_CANCEL, time, -1
        messages["owner"] = owners
        return messages

    # ------------------------------------------------------------------ selling

    def _progress(self, now_ns: int) -> float:
        """How much of the time has passed, 1 in a collapse."""
        return 1.0 if self.mode == "collapse" else min(1.0, max(0.0, (now_ns - self.start_ns) / self._duration_ns))

    def sales(self, now_ns: int, prices: Mapping[str, float], discount: float = 0.0) -> Records:
        """Orders that turn coins into cash: of the hub what its plan asks for, of who owes to it what is missing to pay what is due.

        Args:
            now_ns: Time; they are sent then.
            prices: Currency a coin, of instruments of kind spot; others are left as they are.
            discount: How far below these prices sellers go: the fire-sale discount. What is bid lower is not taken, unless it is 1.
        """
        if self.over:
            return np.zeros(0, MESSAGE)
        parts = []
        progress, accounts = self._progress(now_ns), self._exchange.accounts
        debts = self._due(progress)
        debtors, place = np.unique(debts.debtor, return_inverse=True)
        due = np.bincount(place, debts.units.astype(np.float64), len(debtors)).astype(np.int64)
        house = self.hubs[0].account
        sellers = debtors[debtors != house].astype(np.int32)
        missing = (due[debtors != house] - self.hubs[0].transfers.free_cash(sellers)).astype(np.float64)
        for name, price in prices.items():
            index = self._exchange.index(name)
            instrument = self._exchange.instruments[index]
            if instrument.kind != "spot":
                continue
            limit = max(1, int(np.ceil(price * (1 - discount) / instrument.tick))) if discount < 1 else 0
            worth = (limit or price / instrument.tick) * instrument.unit * (1 - instrument.fees[0].taker)
            free = self.hubs[0].transfers.free_lots(sellers, index)
            lots = np.clip(np.ceil(missing / worth), 0, free).astype(np.int64)
            missing -= lots * worth
            kept = int(np.floor(int(self._lots[index]) * (1 - progress)))
            held = int(accounts.position[house, index])
            own = max(0, min(held - kept, held - int(accounts.position_reserved[house, index])))
            owners, each = np.append(sellers, house), np.append(lots, own)
            parts.append(sales(self._exchange, index, owners, each, Reason.DELEVERAGING, time=now_ns, limit=limit))
        return join(parts) if parts else np.zeros(0, MESSAGE)

    # ------------------------------------------------------------------ paying

    def settle(self, now_ns: int) -> Records:
        """Pay what is due from the cash that is there; at the end (in a collapse: at once) cut what cannot be paid.

        Returns:
            What was paid and written off now; records of `CLAIM`.
        """
        if self.over:
            return np.zeros(0, CLAIM)
        progress = self._progress(now_ns)
        last, swept = progress >= 1.0, 0
        while True:
            if self.mode == "collapse":
                for k in self.failed[swept:]:
                    self.hubs[k].take_custody()
                    self._claims[k] = self.hubs[k].claims.copy()
                swept = len(self.failed)
            debts = self._due(progress)
            paid, short = self._clearing(debts)
            falls = [k for k, hub in enumerate(self.hubs) if hub.account in short and k not in self.failed]
            if not (last and falls):
                break
            self._fall(falls)
        records = self._book(now_ns, debts, paid, last)
        if last:
            self.over = True
            for k in self.failed:
                self.hubs[k].state = "closed"
        return records

    def _due(self, progress: float) -> _Debts:
        """What failed hubs owe and are owed now, in their books and in those of others; in an orderly end, all but the part that is for later."""
        columns: list[tuple[npt.NDArray[Any], ...]] = []
        fallen = np.zeros(len(self._exchange.accounts.cash), np.bool_)
        fallen[[self.hubs[k].account for k in self.failed]] = True
        # Only the first has a plan; who falls with it falls at once
        planned = np.zeros(len(fallen), np.bool_)
        planned[self.hubs[0].account] = True
        for k, hub in enumerate(self.hubs):
            for is_loan, now, then in ((False, hub.claims, self._claims[k]), (True, hub.loans, self._loans[k])):
                concerned = fallen | (k in self.failed)
                later = np.where(planned | (k == 0), np.floor(then * (1.0 - progress)), 0.0).astype(np.int64)
                due = np.where(concerned, np.maximum(now - later, 0), 0)
                other = np.flatnonzero(due)
                house = np.full(len(other), hub.account)
                ends = (other, house) if is_loan else (house, other)
                columns.append((*ends, due[other], np.full(len(other), k), np.full(len(other), is_loan)))
        return _Debts(*(np.concatenate(column) for column in zip(*columns, strict=True)))

    def _clearing(self, debts: _Debts) -> tuple[Ints, set[int]]:
        """What each debt is paid, and who does not pay all: Eisenberg-Noe in whole money units.

        What a debtor pays is shared out to the unit among its debts. Where rounding leaves a debtor with less than it is to pay, `_lowered` takes
        the units that are missing from those further down.
        """
        if not len(debts.units):
            return debts.units.copy(), set()
        debtors, row = np.unique(debts.debtor, return_inverse=True)
        n = len(debtors)
        column = np.searchsorted(debtors, debts.creditor)
        column[(column == n) | (debtors[np.minimum(column, n - 1)] != debts.creditor)] = n
        owed = np.zeros((n + 1, n + 1))
        np.add.at(owed, (row, column), debts.units)
        cash = self.hubs[0].transfers.free_cash(debtors.astype(np.int32))
        vector = clear(owed, np.append(cash, 0)).payments[:n]
        # In Python's integers: products of two amounts do not fit into 64 bits
        amounts, total = debts.units.astype(object), np.zeros(n, object)
        np.add.at(total, row, amounts)
        order = np.argsort(row, kind="stable")
        through = np.zeros(len(row), object)  # of each debt: what its debtor owes up to and with it
        through[order] = np.cumsum(amounts[order]) - np.append(0, np.cumsum(total))[row[order]]
        pays = np.minimum(total, np.ceil(vector).astype(object))
        paid = through * pays[row] // total[row] - (through - amounts) * pays[row] // total[row]
        paid = _lowered(paid.astype(np.int64), row, column, cash.astype(np.int64))
        left = np.zeros(n, np.int64)
        np.add.at(left, row, debts.units - paid)
        return paid, set(debtors[left > 0].tolist())

    def _book(self, now_ns: int, debts: _Debts, paid: Ints, last: bool) -> Records:
        """Move the cash, each account once, and lower claims and loans."""
        net = np.zeros(len(self._exchange.accounts.cash), np.int64)
        np.add.at(net, debts.creditor, paid)
        np.subtract.at(net, debts.debtor, paid)
        transfers = self.hubs[0].transfers
        payers, payees = (np.flatnonzero(side).astype(np.int32) for side in (net < 0, net > 0))
        transfers.take(payers, "resolution", units=-net[payers])
        transfers.give(payees, "resolution", units=net[payees])
        lost = debts.units - paid if last else np.zeros_like(paid)
        for k, hub in enumerate(self.hubs):
            for is_loan, book, ended, cut in (
                (False, hub.claims, "withdrawn", "claims lost"),
                (True, hub.loans, "repaid", "loans lost"),
            ):
                mine = (debts.hub == k) & (debts.is_loan == is_loan)
                others = debts.debtor[mine] if is_loan else debts.creditor[mine]
                book[others] -= paid[mine] + lost[mine]
                hub.flows[ended] += int(paid[mine].sum())
                hub.flows[cut] += int(lost[mine].sum())
        records = np.zeros(len(paid), CLAIM)
        records["time"], records["due"], records["paid"], records["lost"] = now_ns, debts.units, paid, lost
        records["debtor"], records["creditor"] = debts.debtor, debts.creditor
        records["hub"], records["is_loan"] = debts.hub, debts.is_loan
        self.records = join([self.records, records], CLAIM)
        return records

    def table(self) -> pd.DataFrame:
        """What became of each hub that failed, in currency: one row each, to be set beside that of the other mode."""
        rows = []
        for wave, names in enumerate(self.waves):
            for hub in (hub for hub in self.hubs if hub.name in names):
                k = self.hubs.index(hub)
                mine = self.records[self.records["hub"] == k]
                claims, loans = int(self._claims[k].sum()), int(self._loans[k].sum())
                cut, defaulted = (int(mine["lost"][mine["is_loan"] == x].sum()) for x in (False, True))
                paid = claims - cut - int(hub.claims.sum())
                rows.append(
                    {
                        "hub": hub.name,
                        "mode": self.mode,
                        "wave": wave,
                        "claims": claims / MONEY_UNITS,
                        "paid": paid / MONEY_UNITS,
                        "lost": cut / MONEY_UNITS,
                        "recovery": paid / claims if claims else 1.0,
                        "loans": loans / MONEY_UNITS,
                        "defaulted": defaulted / MONEY_UNITS,
                        "creditors": int(np.count_nonzero(self._claims[k])),
                    }
                )
        return pd.DataFrame(rows).set_index("hub")


def _lowered(paid: Ints, row: Ints, column: Ints, means: Ints) -> Ints:
    """Payments lowered where a debtor pays more than it has and gets: each unit too many is taken from a creditor who can bear it.

    Who is short pays less to the next on the shortest way to one who has something left, or to a creditor who owes nothing. There is always a way:
    among all whom a debtor's money reaches, payments only move between them, so that somebody has left what another lacks.

    Args:
        paid: Of each debt, what is paid for it in money units.
        row: Of each debt, its debtor, from 0.
        column: Of each debt, its creditor, or len(means) for one who owes nothing.
        means: Of each debtor, its cash.
    """
    n, paid, left = len(means), paid.copy(), means.copy()
    np.subtract.at(left, row, paid)
    np.add.at(left, column[column < n], paid[column < n])
    while (left < 0).any():
        towards: list[list[int]] = [[] for _ in range(n + 1)]
        for debt in np.flatnonzero(paid > 0).tolist():
            towards[column[debt]].append(debt)
        bears = np.append(left > 0, True)
        way, reached = np.full(n + 1, -1), np.flatnonzero(bears).tolist()
        for creditor in reached:
            for debt in towards[creditor]:
                if not bears[row[debt]]:
                    bears[row[debt]], way[row[debt]] = True, debt
                    reached.append(int(row[debt]))
        for debtor in reversed(reached):  # the furthest first, so that a unit goes all its way in one round
            if debtor < n and left[debtor] < 0 and way[debtor] >= 0:
                debt = way[debtor]
                less = min(-left[debtor], paid[debt])
                paid[debt] -= less
                left[debtor] += less
                if column[debt] < n:
                    left[column[debt]] -= less
    return paid
