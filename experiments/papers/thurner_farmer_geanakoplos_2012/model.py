"""Funds that buy what is cheap with borrowed money, in call auctions on the exchange. The README says how and why so."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from itertools import pairwise
from math import ceil, exp, sqrt
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit
from pydantic import Field, model_validator

from abm.clearing import ClearingHouse
from abm.exchange import ANONYMOUS, MESSAGE, Exchange, Instrument, Kind, Phase, Report, Side, TimeInForce, What
from abm.exchange.description import MONEY_UNITS
from abm.random import stream
from experiments.papers import Estimate, Measured, Parameters, Progress

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CREDIT = 1e11
"""Currency that a broker, or a noise trader's bank, lends each account before trading begins: more than any of them can use."""

REACH = 10.0
"""Standard deviations of the logarithm of what noise traders spend that the exchange has prices for."""

LENT, UNIT = round(CREDIT * MONEY_UNITS), 1.0 / MONEY_UNITS

BUY, SELL, CALL = int(Side.BUY), int(Side.SELL), int(Phase.CALL)
LIMIT, CANCEL, UNCROSS = int(Kind.LIMIT), int(Kind.CANCEL), int(Kind.UNCROSS)
GTC, IOC = int(TimeInForce.GTC), int(TimeInForce.IOC)

AGAINST, DISTURBED = "directions that do not hold", "orders, prices or accounts that are not as the model has them"
WITHOUT_FUNDS = "sd of returns without funds", "kurtosis without funds", "autocorrelation of returns without funds"


class Config(Parameters):
    """Parameters of the paper, with shares of value 1 if nothing else is said, and how long it is watched."""

    QUICK_RUNS: ClassVar[int] = 5

    runs: int = Field(200, ge=2, le=100_000, description="stretches of each market, one after the other")
    stretch: int = Field(1000, ge=300, le=2000, description="steps of a stretch")
    markets: int = Field(6, ge=2, le=50, description="markets at each leverage, each with noise of its own")
    leverages: tuple[Annotated[float, Field(ge=0, le=100)], ...] = Field(
        (0, 1, 4, 7.5, 10),
        min_length=1,
        max_length=10,
        description="most that funds may hold, in their wealth, rising; 0 = no funds",
    )
    funds: int = Field(10, ge=1, le=100, description="funds of each market")
    aggression: float = Field(5.0, gt=0, description="beta: fund h holds beta h times the discount, in its wealth")
    wealth: float = Field(2e6, gt=0, description="with which a fund begins, currency: W0")
    value: float = Field(1.0, gt=0, description="of a share, currency: V")
    supply: int = Field(10**9, ge=10**6, le=10**10, description="shares: N")
    persistence: float = Field(0.99, ge=0, lt=1, description="of the logarithm of what noise traders spend")
    volatility: float = Field(0.035, gt=0, le=0.5, description="standard deviation of its shocks")
    memory: float = Field(0.1, gt=0, le=1, description="weight of the last return in a fund's performance: a")
    sensitivity: float = Field(0.15, ge=0, description="of investors to performance, in the fund's wealth: b")
    benchmark: float = Field(0.005, ge=0, description="performance at which investors neither come nor go: r_b")
    ruin: float = Field(0.1, gt=0, lt=1, description="part of the first wealth below which a fund ends")
    absence: int = Field(100, ge=2, description="steps until another fund takes its place")
    tick: float = Field(1e-4, ge=1e-5, le=0.01, description="smallest price step, in the value of a share")
    descent: float = Field(
        0.02,
        ge=0,
        le=0.5,
        description="prices are called in such steps from the value down until there are buyers for all, in the value, which finds the highest "
        "where several clear the market; 0 = each call halves what is left, which finds any of them",
    )
    tail: tuple[float, float] = Field(
        (1e-3, 0.1), description="shares of the returns between which their tail is fitted"
    )
    lags: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        (1, 10, 100), min_length=1, description="of the autocorrelation of absolute returns"
    )

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if any(one >= other for one, other in pairwise(self.leverages)):
            raise ValueError("leverages must rise")
        if not 0 < self.tail[0] < self.tail[1] <= 1:
            raise ValueError("tail must be two shares, the smaller first, up to 1")
        if self.spread > 0.3:
            raise ValueError("volatility / sqrt(1 - persistence^2) must be at most 0.3, or prices have no end")
        if self.value * self.supply > CREDIT / 20:
            raise ValueError(f"value x supply must be at most {CREDIT / 20:g}; lower it")
        if Decimal(str(self.value)) * Decimal(str(self.tick)) * MONEY_UNITS % 1:
            raise ValueError("value x tick must be a whole number of 0.000001; use another tick")
        return self

    @property
    def spread(self) -> float:
        """Standard deviation of the logarithm of what noise traders spend, in the long run."""
        return self.volatility / sqrt(1.0 - self.persistence**2)

    @property
    def per_tick(self) -> float:
        """Currency of a tick."""
        return round(self.tick * self.value, 6)

    @property
    def top(self) -> int:
        """The value in ticks, rounded up: no fund holds any at that price."""
        return ceil(1.0 / self.tick - 1e-9)


def exact(config: Config) -> Mapping[str, float]:
    """Without funds the price is what noise traders spend on a share: its logarithm is an autoregression of order one."""
    values = config.volatility * sqrt(2.0 / (1.0 + config.persistence)), 3.0, (config.persistence - 1.0) / 2.0
    found = dict(zip(WITHOUT_FUNDS, values, strict=True)) if 0 in config.leverages else {}
    return found | {DISTURBED: 0.0}


# ------------------------------------------------------------------------------------------------------------ statistics


def measure(config: Config, progress: Progress) -> Measured:
    """All estimates, each with the spread over markets as its error; what is drawn are prices (steps + 1, markets) by leverage."""
    prices, faults = history(config, lambda done: progress(done, config.runs))
    estimates: dict[str, Estimate] = {}
    found: dict[float, dict[str, Floats]] = {}
    for leverage, path in prices.items():
        returns = np.diff(np.log(path), axis=0)
        if leverage == 0:
            estimates |= _gaussian(config, returns)
            continue
        found[leverage] = _statistics(config, returns, path[:-1] < config.value)
        for name, values in found[leverage].items():
            estimates[f"{name}, leverage {leverage:g}"] = Estimate.mean(values)
    estimates[AGAINST] = Estimate(against(list(found.values())))
    return Measured(estimates | {DISTURBED: Estimate(faults)}, prices)


def _statistics(config: Config, returns: Floats, cheap: npt.NDArray[np.bool_]) -> dict[str, Floats]:
    """Of log returns (steps, markets) by name: one number for each market. `cheap`: whether the price was below the value before."""
    away = returns - returns.mean(axis=0)
    found = {"sd of returns": returns.std(axis=0), "kurtosis": (away**4).mean(axis=0) / returns.var(axis=0) ** 2}
    moves = [of[was] for of, was in zip(returns.T, cheap.T, strict=True)]
    found["tail exponent of falls"] = np.array([tail_exponent(-each[each < 0], config.tail) for each in moves])
    found["tail exponent of all returns"] = np.array([tail_exponent(np.abs(each), config.tail) for each in moves])
    for lag in config.lags:
        found[f"autocorrelation of absolute returns at lag {lag}"] = autocorrelation(np.abs(returns), lag)
    return found


def autocorrelation(series: Floats, lag: int) -> Floats:
    """Of each column."""
    away = series - series.mean(axis=0)
    found: Floats = (away[lag:] * away[:-lag]).mean(axis=0) / (away**2).mean(axis=0)
    return found


def tail_exponent(sizes: Floats, between: tuple[float, float]) -> float:
    """Minus the slope of log P(size > x) on log x, by least squares over the sizes that so large shares of all reach; nan where they are few."""
    ordered = np.sort(sizes[sizes > 0])[::-1]
    beyond = np.arange(1, len(ordered) + 1) / max(len(ordered), 1)
    fitted = (beyond >= between[0]) & (beyond <= between[1])
    if fitted.sum() < 3:
        return float("nan")
    return -float(np.polyfit(np.log(ordered[fitted]), np.log(beyond[fitted]), 1)[0])


def against(found: list[dict[str, Floats]]) -> int:
    """How often leverage does not make tails fatter and volatility more clustered.

    From the least leverage to the greatest each of kurtosis, autocorrelations and tail exponent must go its way; from one to the next none may go
    the other way by more than two standard errors of the difference. Markets at all leverages have the same noise, so that differences are paired.
    """
    wrong = 0
    ways = {name: -1.0 if name.startswith("tail") else 1.0 for name in (found or [{}])[0] if not name.startswith("sd")}
    for name, way in ways.items():
        for one, other in pairwise(found):
            change = Estimate.mean(way * (other[name] - one[name]))
            wrong += not change.value >= -2.0 * change.error
        wrong += len(found) > 1 and not way * float((found[-1][name] - found[0][name]).mean()) > 0
    return wrong


def _gaussian(config: Config, returns: Floats) -> dict[str, Estimate]:
    """What has a closed form, from moments about zero; errors by leaving out one stretch of a market after the other."""
    following = np.concatenate((returns[1:], np.zeros((1, returns.shape[1]))))
    moments = np.stack((returns**2, returns**4, returns * following))
    blocks = np.concatenate([m.mean(axis=1) for m in np.array_split(moments, config.runs, axis=1)], axis=1)
    left_out = (blocks.sum(axis=1, keepdims=True) - blocks) / (blocks.shape[1] - 1)

    def of(mean: Floats) -> tuple[Floats, Floats, Floats]:
        return np.sqrt(mean[0]), mean[1] / mean[0] ** 2, mean[2] / mean[0]

    values, spread = of(blocks.mean(axis=1)), of(left_out)
    return {
        name: Estimate(float(value), float(np.std(each) * sqrt(blocks.shape[1] - 1)))
        for name, value, each in zip(WITHOUT_FUNDS, values, spread, strict=True)
    }


# --------------------------------------------------------------------------------------------------------------- markets


def history(config: Config, progress: Callable[[int], None] = lambda _: None) -> tuple[dict[float, Floats], int]:
    """Prices of the markets at each leverage, the first of which is the value, and the number of faults."""
    rules, state = Rules.of(config), State.begin(config)
    luck = [stream(config.seed, "noise traders", f"market {m}") for m in range(config.markets)]
    excess = np.zeros(config.markets)
    parts, faults = [state.price[None] * config.per_tick], 0
    for done in range(config.runs):
        shocks = config.volatility * np.stack([each.standard_normal(config.stretch) for each in luck], axis=1)
        noise = np.empty_like(shocks)
        for t, shock in enumerate(shocks):
            noise[t] = excess = config.persistence * excess + shock
        spent = config.value * config.supply * np.exp(np.tile(noise, len(config.leverages)))
        session = Session(config, rules, state)
        parts.append(np.stack([session.step(each) for each in spent]) * config.per_tick)
        faults += session.close()
        progress(done + 1)
    prices = np.concatenate(parts).reshape(-1, len(config.leverages), config.markets)
    return {leverage: prices[:, k] for k, leverage in enumerate(config.leverages)}, faults


class Rules(NamedTuple):
    """What funds go by, for compiled code; `leverage` is that of each market."""

    leverage: Floats
    aggression: float
    value: float
    wealth: float
    memory: float
    sensitivity: float
    benchmark: float
    ruin: float
    absence: int
    per_tick: float

    @classmethod
    def of(cls, config: Config) -> "Rules":
        """Those of the markets: all at the first leverage, then all at the next."""
        shared = {name: getattr(config, name) for name in cls._fields if name != "leverage"}
        return cls(leverage=np.repeat(np.array(config.leverages, np.float64), config.markets), **shared)


class State(NamedTuple):
    """Markets between two steps: arrays over markets, or over markets and funds. Money is what the ledger has less loans, in money units."""

    price: Ints
    """Ticks, in the last auction."""
    lots: Ints
    money: Ints
    performance: Floats
    absent: Ints
    """0 = a fund trades, n = another takes its place in n steps."""

    @classmethod
    def begin(cls, config: Config) -> "State":
        """All shares are with noise traders, at their value; funds have their first wealth."""
        shape = (config.markets * len(config.leverages), config.funds)
        never = np.repeat(np.array(config.leverages) == 0, config.markets)[:, None]
        money = np.broadcast_to(np.where(never, 0, round(config.wealth * MONEY_UNITS)), shape).copy()
        absent = np.broadcast_to(np.where(never, np.iinfo(np.int64).max, 0), shape).copy()
        return cls(np.full(len(never), config.top), np.zeros(shape, np.int64), money, np.zeros(shape), absent)


class Session:
    """An exchange with a book for each market, that serves a stretch; state is taken over and left as it is at the end.

    Accounts of a market follow one another: its funds, and two for noise traders. Those who buy in a step sell all of it in the next, so that
    each auction has a price, even where nobody else trades.
    """

    def __init__(self, config: Config, rules: Rules, state: State) -> None:
        """Open accounts with what `state` says is in them."""
        self._config, self._rules, self._state = config, rules, state
        books, width = len(state.price), config.funds + 2
        self._exchange = Exchange(
            [_instrument(config, book) for book in range(books)], accounts=books * width, ledger=True
        )
        self._house = ClearingHouse(self._exchange)
        self._rows = np.arange(books * width, dtype=np.int32).reshape(books, width)
        self._messages = np.zeros(books * (3 * width + 1), MESSAGE)
        self._resting = np.zeros((books, width), np.int64)
        self._wanted = np.zeros((books, width, 2), np.int64)
        self._seller = config.funds
        self._faults = 0
        self._house.credit(self._rows.reshape(-1), "loans", cash=CREDIT)
        for book, instrument in enumerate(self._exchange.instruments):
            lots = np.append(state.lots[book], (config.supply - state.lots[book].sum(), 0))
            self._house.credit(self._rows[book], "carried over", coins=lots, instrument=instrument.name)
        self._pay("carried over", state.money / MONEY_UNITS)

    def step(self, spent: Floats) -> Ints:
        """Find the price of each market by calls, hold its auction, and let investors come and go.

        Args:
            spent: Currency that the noise traders of each market spend.

        Returns:
            Prices in ticks.
        """
        low = np.floor(spent / (self._config.supply * self._config.per_tick)).astype(np.int64)
        high = np.maximum(self._config.top, low + 1)
        held, stride = self._lots(), round(self._config.descent * self._config.top)
        falling = np.full(len(low), stride > 0)
        while (calling := high - low > 1).any():
            falling &= high - low > stride
            called = np.where(falling, high - stride, (low + high) // 2)
            self._send(held, called, called, calling, spent, last=False)
            seen = self._exchange.view()
            more = seen.bid_quantity >= seen.ask_quantity
            low, high = np.where(calling & more, called, low), np.where(calling & ~more, called, high)
            falling &= ~more
        report = self._send(held, low, high, np.ones(len(low), np.bool_), spent, last=True)
        crossed = report.events[report.events["what"] == What.UNCROSSED]
        bought = self._lots() - held
        self._faults += int(((bought < self._wanted[:, :, 1]) | (bought > self._wanted[:, :, 0])).sum())
        self._faults += int(((crossed["price"] < low) | (crossed["price"] > high)).sum())
        self._seller = 2 * self._config.funds + 1 - self._seller
        self._account(crossed["price"].astype(np.int64))
        return self._state.price.copy()

    def close(self) -> int:
        """Leave the accounts; answers how many orders, prices and accounts were not as they should be."""
        return self._faults + len(self._house.audit().faults)

    def _send(
        self, held: Ints, low: Ints, high: Ints, where: npt.NDArray[np.bool_], spent: Floats, *, last: bool
    ) -> Report:
        """Have everyone in some books replace his order by what he wants at one price, or at two, in ticks, before the auction."""
        count = write_orders(
            self._messages,
            self._exchange.take_ids(0),
            (low, high, where, spent, last),
            (held, self._state.money, self._state.absent, self._seller),
            self._resting,
            self._wanted,
            self._rules,
        )
        report = self._exchange.match(self._messages[:count])
        self._faults += int((report.outcomes["reject"] > 0).sum())
        return report

    def _lots(self) -> Ints:
        """Shares of everyone, by book."""
        lots: Ints = self._exchange.accounts.position[self._rows, np.arange(len(self._rows))[:, None]]
        return lots

    def _account(self, price: Ints) -> None:
        """Read from the ledger what the auctions have left, and let money come and go by it."""
        state, funds = self._state, self._rows[:, : self._config.funds]
        lots, cash = self._lots()[:, : self._config.funds], self._exchange.accounts.cash
        flow = invest(price, lots, cash[funds] - LENT, state, self._rules)
        self._pay("investors", flow)
        state.price[:], state.lots[:], state.money[:] = price, lots, cash[funds] - LENT

    def _pay(self, why: str, amounts: Floats) -> None:
        """Credit funds with currency from outside, or debit them where it is negative."""
        rows, paid = self._rows[:, : self._config.funds].reshape(-1), amounts.reshape(-1)
        into, out = np.flatnonzero(paid > 0), np.flatnonzero(paid < 0)
        self._house.credit(rows[into], why, cash=paid[into])
        self._house.debit(rows[out], why, cash=-paid[out])


def _instrument(config: Config, book: int) -> Instrument:
    """Shares that are bought with cash and change hands in calls alone."""
    return Instrument(
        name=f"book-{book}",
        tick=config.per_tick,
        lot=1,
        max_price=config.value * ceil(exp(REACH * config.spread)),
        max_order=2 * config.supply,
        opening="call",
    )


# ------------------------------------------------------------------------------------------------------- what traders want


@njit(cache=True)
def demand(price: float, lots: float, money: float, leverage: float, aggression: float, value: float) -> float:
    """Shares that a fund with `lots` shares and so much money wants to hold at a price: min(beta m, lambda) W(p) / p, where m = V - p > 0."""
    discount, worth = value - price, lots * price + money
    if discount <= 0.0 or worth <= 0.0:
        return 0.0
    return min(aggression * discount, leverage) * worth / price


@njit(cache=True)
def write_orders(out: Any, order: int, prices: Any, means: Any, resting: Ints, wanted: Ints, rules: Rules) -> int:
    """Write the messages by which everyone replaces his orders by what he wants at two prices.

    Args:
        out: Messages; answers how many are written.
        order: Id of the first order.
        prices: Of each book low and high in ticks, whether anything is sent, and currency that noise traders spend; then whether the orders are
            the last before the auction.
        means: Shares of each account (books, accounts), money units and absence of each fund (books, funds), and which account of a book sells
            what noise traders have.
        resting: Ids of everyone's order of the call before, 0 = none (books, accounts); replaced.
        wanted: Shares to buy at low and at high, negative to sell (books, accounts, 2); replaced.
        rules: What funds go by.
    """
    low, high, where, spent, last = prices
    lots, money, absent, seller = means
    n = 0
    for b in range(len(lots)):
        if not where[b]:
            continue
        for k in range(lots.shape[1]):
            row = b * lots.shape[1] + k
            if resting[b, k] != 0:
                n = _write(out, n, CANCEL, b, row, resting[b, k], BUY, low[b], 1, False)
                resting[b, k] = 0
            for end, ticks in enumerate((low[b], high[b])):
                price, target = ticks * rules.per_tick, 0.0
                if k >= money.shape[1]:
                    target = 0.0 if k == seller else spent[b] / price
                elif absent[b, k] == 0:
                    target = demand(
                        price,
                        lots[b, k],
                        money[b, k] * UNIT,
                        rules.leverage[b],
                        rules.aggression * (k + 1),
                        rules.value,
                    )
                wanted[b, k, end] = int(target) - lots[b, k]
            # Nobody can say by limit orders that he wants more at a higher price
            wanted[b, k, 1] = min(wanted[b, k, 1], wanted[b, k, 0])
            first = order
            n, order = _limits(out, n, order, b, row, low[b], high[b], wanted[b, k, 0], wanted[b, k, 1], last)
            if order > first and not last:
                resting[b, k] = first
        if last:
            n = _write(out, n, UNCROSS, b, ANONYMOUS, 0, CALL, 0, 0, False)
    return n


@njit(cache=True)
def _limits(
    out: Any, n: int, order: int, b: int, row: int, low: int, high: int, at_low: int, at_high: int, last: bool
) -> tuple[int, int]:
    """Limit orders that buy (or sell, where negative) so much at a low and no more at a high price; the numbers of messages and orders after them."""
    firm_buy, more_buy = max(at_high, 0), max(at_low, 0) - max(at_high, 0)
    firm_sell, more_sell = max(-at_low, 0), max(-at_high, 0) - max(-at_low, 0)
    for side, price, size in (
        (BUY, high, firm_buy),
        (BUY, low, more_buy),
        (SELL, low, firm_sell),
        (SELL, high, more_sell),
    ):
        if size > 0:
            n = _write(out, n, LIMIT, b, row, order, side, price, size, last)
            order += 1
    return n, order


@njit(cache=True)
def _write(
    out: Any, n: int, kind: int, book: int, owner: int, order: int, side: int, price: int, size: int, last: bool
) -> int:
    """Write one message; what is left of a last order after the auction is cancelled."""
    message = out[n]
    message.kind, message.instrument, message.owner, message.order = kind, book, owner, order
    message.side, message.price, message.quantity = side, price, size
    message.tif = IOC if last else GTC
    return n + 1


@njit(cache=True)
def invest(ticks: Ints, lots: Ints, money: Ints, state: State, rules: Rules) -> Floats:
    """What investors bring to each fund after an auction, or take, in currency (books, funds); performance and absence are brought up to date.

    With r = D (p - p') / W' on what was held before, r_perf <- (1 - a) r_perf + a r and F = max(-1, b (r_perf - r_b)) max(0, D p + M).

    Args:
        ticks: Prices of the auctions.
        lots: Shares after them.
        money: Money units after them.
        state: As it was before.
        rules: What investors go by.
    """
    flow = np.zeros(lots.shape)
    for b in range(len(flow)):
        before, now = state.price[b] * rules.per_tick, ticks[b] * rules.per_tick
        for h in range(flow.shape[1]):
            if state.absent[b, h] > 0:  # what it sold last is its lenders'
                state.absent[b, h] -= 1
                back = state.absent[b, h] == 0
                flow[b, h] = (rules.wealth if back else 0.0) - money[b, h] * UNIT
                continue
            held, owned = state.lots[b, h], state.money[b, h] * UNIT
            was, worth = held * before + owned, held * now + owned
            gain = held * (now - before) / was if was > 0.0 else 0.0
            performance = (1.0 - rules.memory) * state.performance[b, h] + rules.memory * gain
            flow[b, h] = max(-1.0, rules.sensitivity * (performance - rules.benchmark)) * max(0.0, worth)
            state.performance[b, h] = performance
            if lots[b, h] * now + money[b, h] * UNIT + flow[b, h] < rules.ruin * rules.wealth:
                state.absent[b, h], state.performance[b, h] = rules.absence, 0.0
    return flow
