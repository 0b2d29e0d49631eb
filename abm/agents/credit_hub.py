"""A credit hub: an exchange, lender or custodian that owes to other traders and is owed by them, until it fails.

The rule book is docs/concepts/lending.md. Deposits, loans and custody stand as the run begins. When the hub fails, it sells what it has, its
debtors sell what they miss to pay, accounts in its custody are frozen (in a collapse), and claims are cut to what that brings.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from abm.agents.base import Coins, Floats, Numbers, Population, Trader, TraderConfig, trader
from abm.agents.view import View
from abm.clearing.hub import CreditHub, Mode, Resolution
from abm.clock import Seconds, Utc
from abm.contagion.graph import Edge, equity, holders
from abm.exchange.description import MONEY_UNITS, NS, Frozen
from abm.exchange.gateway import Batch
from abm.exchange.messages import Records, join


class Customer(Frozen):
    """What the accounts of one trader have to do with a hub."""

    deposit: float = Field(0.0, ge=0, le=1, description="part of each account's cash that is deposited", examples=[0.3])
    loan: float = Field(
        0.0,
        ge=0,
        le=10,
        description="debt of each account as a fraction of its cash and coins, in which it is already spent",
        examples=[0.5],
    )
    custody: float = Field(0.0, ge=0, le=1, description="part of the accounts that it has in custody", examples=[0.5])


class CreditHubConfig(TraderConfig):
    """A credit hub."""

    accounts: int = Field(1, ge=1, le=1, description="accounts; one hub is one", examples=[1])
    customers: dict[str, Customer] = Field(
        default={},
        description="names of traders above it in the scenario, and what they have to do with it",
        examples=[{"noise": {"deposit": 0.3, "custody": 0.5}}],
    )
    cash: float = Field(0.0, ge=0, description="currency of its own besides deposits", examples=[1e6])
    coins: dict[str, float] = Field(
        default={}, description="coins it holds, by name of instrument", examples=[{"btc-spot": 500}]
    )
    spent: float = Field(
        0.0, ge=0, le=1, description="part of the deposits that is gone, such as for these coins", examples=[0.5]
    )
    fails_at: Utc | None = Field(None, description="when it fails in any case, UTC", examples=["2026-02-05T12:00Z"])
    every: Seconds = Field(
        60.0,
        gt=0,
        description="time between two looks at its equity, or two sales of an orderly end",
        examples=["1min"],
    )
    mode: Mode = Field("collapse", description="what its failure is: all at once, or an orderly end")
    duration: Seconds = Field(6 * 3600.0, gt=0, description="time an orderly end takes", examples=["6h"])
    fire_sale: Seconds = Field(
        600.0, ge=0, description="longest time for which a collapsed hub sells before it pays", examples=["10min"]
    )
    discount: float = Field(
        0.02, ge=0, le=1, description="how far below the mid it and its debtors sell; 1 = at any price", examples=[0.02]
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> "CreditHubConfig":
        if any(amount < 0 for amount in self.coins.values()):
            raise ValueError("coins must not be below 0")
        return self

    @property
    def traded(self) -> tuple[str, ...]:
        """Names of the instruments whose coins it holds."""
        return tuple(self.coins) or (self.instrument,)


@trader("credit_hub")
class Hub(Trader):
    """The house account of a hub, and its end. Where its channel is off it has the same books and never fails."""

    channel = "credit"
    config: CreditHubConfig
    hub: CreditHub
    """Its books."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open()

    def setup(self) -> None:
        """Look at its equity now and then, and at the time at which it is to fail."""
        c, clock = self.config, self.model.scenario.clock
        self.resolution: Resolution | None = None
        """Its end, once it has failed."""
        self._fails_at = math.inf if c.fails_at is None else clock.seconds_at(c.fails_at)
        self._sold_out = False
        self.wake_every(c.every, start=self.model.seconds)
        at = clock.units(self._fails_at) if c.fails_at is not None else math.inf
        if self.model.time <= at < clock.steps:
            self.model.schedule_event(self.wake, at=math.ceil(at))

    def endow(self) -> tuple[Numbers, Coins]:
        """What it has of its own."""
        return self.config.cash, self.config.coins

    def _open(self) -> None:
        """Take deposits, lose what is gone of them, and lend; what was lent is already spent."""
        c, house = self.config, self.model.house
        known = [(customer, terms) for name, terms in c.customers.items() for customer in self._traders(name)]
        draws = [self.random(f"custody {customer.name}").random(customer.size) for customer, _ in known]
        held = [customer.rows[draw < terms.custody] for (customer, terms), draw in zip(known, draws, strict=True)]
        custody = np.concatenate([self.rows[:0], *held])
        self.hub = CreditHub(self.model.exchange, house, self.name, self.first, custody)
        loans = [(customer.rows, terms.loan * self._worth(customer)) for customer, terms in known if terms.loan]
        for customer, terms in known:
            self.hub.deposit(customer.rows, terms.deposit * customer.free_cash())
        house.debit(self.rows, f"{self.name}: deposits gone", cash=c.spent * float(self.hub.claims.sum()) / MONEY_UNITS)
        for rows, cash in loans:
            self.hub.lend(rows, cash)
            house.debit(rows, f"{self.name}: loans spent elsewhere", cash=self.hub.loans[rows] / MONEY_UNITS)

    def _traders(self, name: str) -> list[Population]:
        """Those of a name in the scenario: several where it stands for parts."""
        described = self.model.scenario.traders
        found = [
            population
            for population in self.model.populations
            if population.name == name
            or (population.name.startswith(f"{name}-") and population.name not in described and name in described)
        ]
        if not found or self in found:
            raise ValueError(f"{self.name}: customers: no trader {name!r} stands above it; list the hub after it")
        return found

    def _worth(self, customer: Population) -> Floats:
        """Cash and coins of each account, at the mids, in currency."""
        spot = {i.name for i in self._instruments if i.kind == "spot"}
        view = self.model.view()
        coins = [customer.holdings(name) * view[name].mid for name in customer.config.traded if name in spot]
        return np.asarray(customer.cash + sum(coins))

    def _others(self) -> list[CreditHub]:
        return [p.hub for p in self.model.populations if isinstance(p, Hub) and p is not self]

    @property
    def own_equity(self) -> float:
        """Currency: its cash, its coins at the mids and what it is owed, less what it owes, in its books and in those of other hubs."""
        owed = int(self.hub.loans.sum()) - int(self.hub.claims.sum())
        owed += sum(int(hub.claims[self.first]) - int(hub.loans[self.first]) for hub in self._others())
        return float(self._worth(self)[0]) + owed / MONEY_UNITS

    # ------------------------------------------------------------------ how it ends

    def orders(self, view: View) -> Batch | None:
        """What it and its debtors sell: orders of other traders' accounts too, so that they are not cut to its own means."""
        self.awake = False
        messages = self.decide(view)
        return None if messages is None or not len(messages) else Batch(messages, self._delays.take(len(messages)))

    def decide(self, view: View) -> Records | None:
        """Fail when it is time or its equity is below 0; then what is to be sold, until all is paid or cut."""
        if self.resolution is None:
            if self.hub.state != "open" or not (view.seconds >= self._fails_at or self.own_equity < 0.0):
                return None
            self._fail(view)
        assert self.resolution is not None
        return None if self.resolution.over else self._resolve(self.resolution, view)

    def _fail(self, view: View) -> None:
        c = self.config
        others = [hub for hub in self._others() if hub.state == "open"]
        collapses = c.mode == "collapse"
        duration = 0.0 if collapses else c.duration
        self.resolution = self.hub.fail(view.time_ns, c.mode, duration=duration, others=others)
        self._until = view.time_ns + round((c.fire_sale if collapses else c.duration) * NS)
        if collapses:
            self.model.refusals.append(self.resolution.refused)

    def _resolve(self, resolution: Resolution, view: View) -> Records | None:
        """One round: in an orderly end pay what is due, sell, and once all was on offer and time is up settle what is left."""
        now, orderly = view.time_ns, resolution.mode == "orderly"
        if orderly and now < self._until:
            resolution.settle(now)
        prices = {i.name: view[i.name].mid for i in self._instruments if i.kind == "spot"}
        sales = resolution.sales(now, prices, self.config.discount)
        if self._sold_out and (now >= self._until or not len(sales)):
            resolution.settle(now)
            if not orderly:
                self.model.refusals.remove(resolution.refused)
            return None
        cancels = resolution.cancellations(now) if now == resolution.start_ns else sales[:0]
        self._sold_out = not orderly or now >= self._until
        if self._sold_out:
            self.wake()
        return join([cancels, sales])

    # ------------------------------------------------------------------ what became of it

    def elsewhere(self, has: Floats) -> None:
        """Claims on it less debts to it, of each account; of its own the other side of all of them, in currency."""
        owed = (self.hub.claims - self.hub.loans) / MONEY_UNITS
        has += owed
        has[self.first] -= owed.sum()

    def links(self) -> Iterator[Edge]:
        """In currency: hub to holder what it owes him and has of his in custody, holder to hub what he owes; its own account leads to it too."""
        books, node = self.hub, f"hub:{self.name}"
        for name, owner, rows in holders(self.model):
            kept = books.custody[np.isin(books.custody, rows)]
            owed = int(books.claims[rows].sum()) + int(books.transfers.free_cash(kept).sum())
            owes = int(books.loans[rows].sum()) / MONEY_UNITS
            has = equity(self.model, rows) if owner is self else 0.0
            if owed > 0:
                yield Edge(node, name, owed / MONEY_UNITS)
            if owes + has > 0.0:
                yield Edge(name, node, owes + has)

    def faults(self) -> tuple[str, ...]:
        """What the audit of its books found."""
        return self.hub.audit().faults

    def about(self) -> Mapping[str, Any]:
        """Its books in currency, and its state."""
        flows = {key.replace(" ", "_"): self.hub.flows[key] / MONEY_UNITS for key in ("claims lost", "loans lost")}
        claims, loans = (int(book.sum()) / MONEY_UNITS for book in (self.hub.claims, self.hub.loans))
        return {"state": self.hub.state, "claims": claims, "loans": loans, **flows}
