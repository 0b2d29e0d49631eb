"""The market: a Mesa model that wires traders, gateway, exchange, ledger and recorder together, and the step that drives them."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import mesa
import numpy as np
import numpy.typing as npt
from mesa.time import Schedule

from abm.agents import kinds
from abm.agents.view import View
from abm.clearing.house import ClearingHouse
from abm.clock import seconds
from abm.contagion.layer import Contagion
from abm.exchange.exchange import Exchange, Report
from abm.exchange.gateway import Gateway, Refusal
from abm.exchange.instrument import Instrument
from abm.exchange.messages import Records
from abm.random import Fork, Streams
from abm.record import Result
from abm.recorder import Recorder
from abm.scenario import Scenario, ScenarioError, load
from abm.world.fundamental import Fundamental, fundamental_path
from abm.world.news import News, NewsPaths

if TYPE_CHECKING:
    from abm.agents.base import Coins, Numbers, Population, TraderConfig

_log = logging.getLogger(__name__)
_NO_NEWS = Fundamental()
Progress = Callable[[int, int], None]


class Observer(Protocol):
    """Whoever is told what each step brought."""

    def observe(self, report: Report) -> None:
        """Take it in."""


class Market(mesa.Model):  # type: ignore[misc]
    """One run. Time is Mesa's: one unit is one step of the scenario's clock.

    Step k (counted from 0) covers the time from k to k + 1 steps after the start: traders see the market as it is at its beginning, and
    what they send arrives during it. Scheduled events at time k come before step k.
    """

    def __init__(self, scenario: Scenario | str) -> None:
        """Set up a run.

        Args:
            scenario: A scenario, or the name of one.
        """
        self._described = load(scenario) if isinstance(scenario, str) else scenario
        super().__init__(rng=self._described.seed)
        described = self._described
        instruments = tuple(described.instruments.values())
        self._step_s, self._step_ns = described.clock.step, described.clock.step_ns
        self.streams = Streams(described.seed)
        """Where all chance of the run comes from, but for news, which is drawn for all steps at once."""
        traders = self._parts()
        own = (terms.accounts for kind, terms in traders.values() if not kind.for_fund)
        self._rows = sum(own) + described.spare_accounts
        self._next_row = 0
        self.populations: list[Population] = []
        self.observers: list[Observer] = []
        """Desks that work parent orders, the clock of a fund's fixing, and whoever else is to learn of each step."""
        self.exchange = Exchange(instruments, accounts=self._rows, ledger=True, note_shifts=True)
        self.refusals: list[Refusal] = []
        """Who says which messages come from frozen accounts: hubs that have failed."""
        self.gateway = Gateway(self.exchange, frozen=self._refused, start=described.clock.start)
        self.house = ClearingHouse(self.exchange)
        accounts = self.exchange.accounts
        self.cash, self.cash_reserved = accounts.cash, accounts.cash_reserved
        self.position, self.position_reserved = accounts.position, accounts.position_reserved
        """The accounts of the exchange: live arrays, looked up once because everyone reads them in every step."""
        self.on_margin = np.array([instrument.margin is not None for instrument in instruments])
        self._draw_news()
        self._steps_done = 0
        self._view: View | None = None
        self.recorder = Recorder(self)
        self.datacollector = mesa.DataCollector(model_reporters=self.recorder.reporters())
        self.schedule_recurring(
            self._sample, Schedule(interval=described.clock.units(described.recording.interval), start=0.0)
        )
        self._clocks = [*_funding_clocks(self, instruments), *_variation_clocks(self, instruments)]
        if self.exchange.fund >= 0:
            self.house.credit(np.array([self.exchange.fund], np.int32), "insurance fund", cash=described.insurance_fund)
        self._opened = False
        try:
            self.contagion = Contagion(self)
            for name, (kind, terms) in traders.items():
                kind(self, name, terms)
            self._open_positions()
        except ValueError as error:  # what only shows beside the instruments and the other traders
            raise ScenarioError(f"{described.name}: {error}") from error
        self._opened = True
        for population in self.populations:
            population.opened()
            self.recorder.opened(population)
        self.recorder.sample_network()
        self._schedule_exports()
        self._tell()
        if described.branch is not None:
            at = round(described.clock.units(described.clock.seconds_at(described.branch.at)))
            self.schedule_event(self._branch_off, at=at)

    def _tell(self) -> None:
        described = self._described
        _log.info(
            "sets up %s, seed %d: %d instruments, %d accounts of %d traders, %d steps of %g s",
            *(described.name, described.seed, len(described.instruments), self._next_row, len(self.populations)),
            *(described.clock.steps, self._step_s),
        )
        for population in self.populations:
            _log.debug("%s (%s): %d accounts", population.name, population.kind, population.size)

    def _branch_off(self) -> None:
        """Let chance go another way from now on. Until now nobody knows of it, not even who hears news ahead of time."""
        branch = self.scenario.branch
        assert branch is not None
        _log.info("branches off at %s with seed %d", branch.at.isoformat(), branch.seed)
        self.streams.branch(branch.seed, self.seconds)
        self._draw_news(Fork(self._steps_done, branch.seed))

    def _schedule_exports(self) -> None:
        """Have the network exported at the times that the scenario chooses."""
        clock, chosen = self.scenario.clock, self.scenario.recording.network
        if isinstance(chosen, float):
            every = clock.units(chosen)
            self.schedule_recurring(self.recorder.sample_network, Schedule(interval=every, start=every))
        elif chosen is not None:
            for at in sorted({round(clock.units(clock.seconds_at(moment))) for moment in chosen}):
                if 0 < at < clock.steps:
                    self.schedule_event(self.recorder.sample_network, at=at)

    # ------------------------------------------------------------------ the step

    def step(self) -> None:
        """Let everyone who is awake look and decide, match what they send, and write down what happened."""
        view = self.view()
        now = self.time_ns
        orders = [population.orders(view) for population in self.populations if population.due(now)]
        tape = self.gateway.arrange([sent for sent in orders if sent is not None], now + self._step_ns)
        report = self.exchange.match(tape)
        self._steps_done += 1
        self._view = None
        self.contagion.spread(report)
        for observer in self.observers:
            observer.observe(report)
        self.recorder.observe(report, tape)

    # ------------------------------------------------------------------ time

    @property
    def time_ns(self) -> int:
        """Nanoseconds since the start of the run."""
        return self._steps_done * self._step_ns

    @property
    def seconds(self) -> float:
        """Seconds since the start of the run."""
        return self.time_ns / 1e9

    @property
    def steps_done(self) -> int:
        """Steps that are over."""
        return self._steps_done

    def run_for(self, duration: float | str) -> None:
        """Run on for a duration such as `"2h"`, or for a number of Mesa time units (steps).

        Raises:
            ValueError: That is beyond the end of the scenario.
        """
        units = self.scenario.clock.units(duration) if isinstance(duration, str) else float(duration)
        left = self.scenario.clock.steps - self.time
        if units > left + 1e-9:
            raise ValueError(
                f"{self.scenario.name} ends in {left:g} steps; choose a later clock.end to run for {units:g}"
            )
        super().run_for(units)

    # ------------------------------------------------------------------ what can be seen

    def view(self) -> View:
        """What anyone may see now."""
        if self._view is None:
            self._tops = self.exchange.tops()
            tops = self._tops.tolist()
            self.recorder.quote(self._steps_done, tops)
            self._view = View(
                self.exchange.instruments,
                tops,
                self.recorder.mids,
                self._steps_done,
                self._step_s,
                self.time_ns,
                self._described.day_before,
            )
        return self._view

    def _parts(self) -> "dict[str, tuple[type[Population], TraderConfig]]":
        """Kind and configuration of each population that the scenario stands for."""
        described, parts = self._described, {}
        for name, config in described.traders.items():
            for part, terms in kinds()[config.kind].parts(name, config, described).items():
                if part in parts or (part != name and part in described.traders):
                    raise ScenarioError(
                        f"{described.name}: traders.{part}: a part of {name} is called so; choose another"
                    )
                parts[part] = (kinds()[config.kind], terms)
        return parts

    def _draw_news(self, fork: Fork | None = None) -> None:
        """The paths of all values and of how fast news comes; where the run branches off, they are as they were up to there."""
        described, heard = self._described, self._described.channels.on("news")
        common = NewsPaths(described.news if heard else News(), described.clock, described.seed, fork)
        self._paces = {name: self._pace_of(name, fork) for name in described.instruments}
        self._fundamentals = {name: self._news_of(name, common, fork) for name in described.instruments}

    def _news_of(self, name: str, common: NewsPaths, fork: Fork | None) -> npt.NDArray[np.float64]:
        """The path of an instrument's fundamental value: its own, or that of the instrument it is a claim on."""
        described = self._described
        news = described.fundamentals.get(name, Fundamental(volatility=0.0))
        if news.of:
            return self._news_of(news.of, common, fork) * news.ratio
        price = described.instruments[name].reference_price or 0.0
        loadings = news.loadings if described.channels.on("news") else {}
        taken_on, pace = common.of(name, loadings), self._paces[name]
        return fundamental_path(news, price, described.clock, described.seed, name, taken_on, pace, fork)

    def _pace_of(self, name: str, fork: Fork | None) -> npt.NDArray[np.float64]:
        """How fast news about an instrument comes at each step; that about a claim is about what it is a claim on."""
        described = self._described
        news = described.fundamentals.get(name, Fundamental())
        if news.of:
            return self._pace_of(news.of, fork)
        clock = described.clock
        return news.pace.path(clock, described.seed, name, fork) if news.pace is not None else np.ones(clock.steps)

    def pace(self, instrument: str) -> float:
        """How fast news about an instrument comes now, and people trade for it; 1 on average."""
        path = self._paces[instrument]
        return float(path[min(self._steps_done, len(path) - 1)])

    def fundamental(self, instrument: str, ahead: str | float = 0.0) -> float:
        """What an instrument is worth by the news so far, in currency. Only traders who follow the news may ask.

        Args:
            instrument: Its name.
            ahead: By the news until so much later, or the end of the run: only insiders may ask.
        """
        path, step = self._fundamentals[instrument], self._steps_done
        if ahead:
            step += round(self.scenario.clock.units(ahead))
        return float(path[min(step, len(path) - 1)])

    def worth(self, instrument: str) -> float:
        """What an instrument is held to be worth by those who value it: by the news so far, and by what other markets' prices tell."""
        of = self._described.fundamentals.get(instrument, _NO_NEWS).of
        values = self._described.channels.correlation.values
        return self.fundamental(instrument) * self.contagion.inferred(instrument if instrument in values else of)

    def tops(self) -> Records:
        """What `view` shows, in ticks and lots: one `VIEW` record for each instrument."""
        self.view()
        return self._tops

    @property
    def scenario(self) -> Scenario:
        """The description of this run."""
        return self._described

    @scenario.setter
    def scenario(self, value: Any) -> None:
        # Mesa describes each run by a scenario object of its own and sets it when the model is made; agents read ours.
        mesa.Model.scenario.fset(self, value)

    # ------------------------------------------------------------------ who joins

    def unused_name(self, wanted: str) -> str:
        """The name wanted, or with a number behind it where it is taken."""
        taken = {population.name for population in self.populations}
        return next(
            name for name in (wanted, *(f"{wanted}-{n}" for n in range(2, len(taken) + 3))) if name not in taken
        )

    def admit(self, population: "Population") -> int:
        """Give a population its accounts; the first of them.

        Raises:
            ValueError: Not so many accounts are left, or there is no insurance fund to act for, or somebody does already.
        """
        if population.for_fund:
            return self._entrust(population)
        free = self._rows - self._next_row
        if population.size > free:
            raise ValueError(f"{population.name}: {population.size} accounts wanted, {free} left; raise spare_accounts")
        first = self._next_row
        self._next_row += population.size
        self.populations.append(population)
        return first

    def _entrust(self, population: "Population") -> int:
        """Let a population act for the insurance fund; the fund's account."""
        named = f"traders.{population.name}"
        if self.exchange.fund < 0:
            raise ValueError(f"{named}: no instrument has margin, so that there is no insurance fund; leave it out")
        others = [other.name for other in self.populations if other.for_fund]
        if others:
            raise ValueError(f"{named}: {others[0]} acts for the insurance fund already; give it both books")
        self.populations.append(population)
        return self.exchange.fund

    def open_account(self, population: "Population", cash: "Numbers", coins: "Coins") -> None:
        """Credit what a population starts with, and set its fee tier."""
        if population.size:
            self.exchange.accounts.tier[population.rows] = population.config.tier
            self.house.credit(population.rows, "opening", cash=cash)
            held = coins if isinstance(coins, Mapping) else {population.config.instrument: coins}
            for name, amount in held.items():
                if np.any(amount):
                    self.house.credit(population.rows, "opening", coins=amount, instrument=name)
        if self._opened:
            self.recorder.opened(population)

    def _open_positions(self) -> None:
        """Open the derivatives that populations hold at the start; one that balances takes the other side of all of them."""
        pieces: dict[str, list[tuple[Any, Any, Any]]] = {}
        for population in self.populations:
            for name, (coins, entry) in population.open_positions().items():
                index = self.exchange.index(name)
                instrument = self.exchange.instruments[index]
                lots = np.broadcast_to(np.asarray(coins) / instrument.lot, population.size).round().astype(np.int64)
                ticks = np.broadcast_to(np.asarray(entry) / instrument.tick, population.size).round().astype(np.int64)
                inverse = instrument.kind == "inverse"
                costs = (
                    -(np.sign(lots) * (abs(lots) * instrument.unit // ticks))
                    if inverse
                    else lots * ticks * instrument.unit
                )
                pieces.setdefault(name, []).append((population.rows, lots, costs))
        for name, held in pieces.items():
            missing, cost = (-sum(int(piece[k].sum()) for piece in held) for k in (1, 2))
            if missing or cost:
                held.append(self._other_side(name, missing, cost))
            rows, lots, costs = (np.concatenate(column) for column in zip(*held, strict=True))
            self.house.open_positions(rows, name, lots, costs)

    def _other_side(self, name: str, lots: int, cost: int) -> tuple[Any, Any, Any]:
        """Rows, lots and costs of the population that makes up what others hold; the last account takes what rounding leaves."""
        for population in self.populations:
            each = population.balance(name, lots)
            if each is not None:
                costs = np.array([int(part) * cost // lots for part in each], np.int64)
                costs[-1] += cost - int(costs.sum())
                return population.rows, each, costs
        raise ValueError(
            f"traders hold {-lots} lots of {name} at the start and nobody takes the other side; add basis_arbitrage"
        )

    def owed(self) -> npt.NDArray[np.float64]:
        """Currency that each account owes to brokers outside the market."""
        owed = np.zeros(len(self.cash))
        for population in self.populations:
            owed[population.rows] = population.owed()
        return owed

    def elsewhere(self) -> npt.NDArray[np.float64]:
        """Currency that each account has in books beside the ledger, less what it owes there."""
        has = np.zeros(len(self.cash))
        for population in self.populations:
            population.elsewhere(has)
        return has

    def _refused(self, tape: Records) -> npt.NDArray[np.bool_]:
        """Which messages come from frozen accounts."""
        refused = np.zeros(len(tape), np.bool_)
        for refuses in self.refusals:
            refused |= refuses(tape)
        return refused

    # ------------------------------------------------------------------ what came of it

    def _sample(self) -> None:
        self.view()
        self.recorder.sample()
        self.datacollector.collect(self)

    def result(self) -> Result:
        """Everything that was recorded so far, with the audit of the ledger."""
        self.view()
        return self.recorder.result()


def _funding_clocks(market: Market, instruments: Sequence[Instrument]) -> Iterator["_FundingClock"]:
    alike: dict[tuple[float, float], list[str]] = {}
    for instrument in instruments:
        if instrument.margin and instrument.margin.funding:
            terms = instrument.margin.funding
            alike.setdefault((terms.sample, terms.interval), []).append(instrument.name)
    for (sample, interval), names in alike.items():
        yield _FundingClock(market, names, sample, interval)


class _FundingClock:
    """Has the premiums of perpetuals sampled, and funding paid, every so many seconds. Mesa's events take no arguments."""

    def __init__(self, market: Market, names: Sequence[str], sample: float, interval: float) -> None:
        self._house, self._names = market.house, names
        units = market.scenario.clock.units
        market.schedule_recurring(self._sample, Schedule(interval=units(sample), start=units(sample)))
        market.schedule_recurring(self._pay, Schedule(interval=units(interval), start=units(interval)))

    def _sample(self) -> None:
        self._house.sample_premiums(self._names)

    def _pay(self) -> None:
        for name in self._names:
            self._house.pay_funding(name)


def _variation_clocks(market: Market, instruments: Sequence[Instrument]) -> Iterator["_VariationClock"]:
    for instrument in instruments:
        if instrument.margin and instrument.kind == "future":
            yield _VariationClock(market, instrument)


class _VariationClock:
    """Has the day's profits and losses of one future paid at its mark as a session closes; each day where trading never ends."""

    def __init__(self, market: Market, instrument: Instrument) -> None:
        self._market, self._name = market, instrument.name
        clock, calendar = market.scenario.clock, instrument.calendar
        if calendar is None:
            market.schedule_recurring(self._settle, Schedule(interval=clock.units("1d"), start=clock.units("1d")))
            return
        for _, closes in calendar.between(clock.start, clock.end):
            if closes <= clock.end:
                market.schedule_event(self._settle, at=math.ceil(clock.units(clock.seconds_at(closes))))

    def _settle(self) -> None:
        self._market.house.settle_variation(self._name, self._market.view()[self._name].mark)


def run(scenario: Scenario | str, progress: Progress | None = None) -> Result:
    """Run a scenario from start to end.

    Args:
        scenario: A scenario, or the name of one.
        progress: Called with the steps done and the steps in all, once the market is built and now and then from there.

    Returns:
        What happened. `result.audit.passed` says whether cash and coins were conserved.
    """
    market = Market(scenario)
    total = market.scenario.clock.steps
    began = time.perf_counter()
    stride = max(1, min(total // 200, round(seconds("10min") / market.scenario.clock.step)))
    if progress is not None:
        progress(0, total)
    for done in count(0, stride):
        if done >= total:
            break
        market.run_for(min(stride, total - done))
        if progress is not None:
            progress(min(done + stride, total), total)
    _log.info("played %s in %.1f s", market.scenario.name, time.perf_counter() - began)
    return market.result()
