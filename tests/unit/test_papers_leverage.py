"""Funds with borrowed money: the exchange's auctions against a plain twin that clears by bisection, and what the ledger keeps."""

import math
from typing import Any

import numpy as np
import pytest

from abm.random import stream
from abm.scenario import ScenarioError
from experiments.papers import find
from experiments.papers.judgement import judge, read
from experiments.papers.thurner_farmer_geanakoplos_2012 import model
from experiments.papers.thurner_farmer_geanakoplos_2012.model import (
    AGAINST,
    DISTURBED,
    LENT,
    Config,
    Rules,
    Session,
    State,
    against,
    autocorrelation,
    history,
    tail_exponent,
)

NAME = "thurner-farmer-geanakoplos"
STEPS = 300


class Fund:
    """A fund of the twin: nothing is rounded."""

    def __init__(self, config: Config, number: int, leverage: float) -> None:
        self.config, self.leverage = config, leverage
        self.beta = config.aggression * (number + 1)
        self.shares, self.money, self.performance, self.absent = 0.0, config.wealth, 0.0, 0

    def wants(self, price: float) -> float:
        """Shares at a price."""
        discount = self.config.value - price
        if self.absent or discount <= 0:
            return 0.0
        return max(0.0, min(self.beta * discount, self.leverage) * (self.shares * price + self.money) / price)

    def trade(self, before: float, price: float) -> None:
        """Buy what it wants at the price; let investors come and go."""
        c = self.config
        if self.absent:
            self.absent -= 1
            self.shares, self.money = 0.0, 0.0 if self.absent else c.wealth
            return
        was, worth = self.shares * before + self.money, self.shares * price + self.money
        gain = self.shares * (price - before) / was if was > 0 else 0.0
        self.performance = (1 - c.memory) * self.performance + c.memory * gain
        wanted = self.wants(price)
        self.money += (self.shares - wanted) * price
        self.money += max(-1.0, c.sensitivity * (self.performance - c.benchmark)) * max(0.0, worth)
        self.shares = wanted
        if self.shares * price + self.money < c.ruin * c.wealth:
            self.absent, self.performance = c.absence, 0.0


def bisection(config: Config, spent: float, funds: list[Fund]) -> float:
    """The price at which what noise traders spend buys what funds leave of the supply; with a descent the highest, if there are several."""
    low, high = spent / config.supply, config.value
    if low >= high:
        return low
    while config.descent and high - low > config.descent * config.value:
        called = high - config.descent * config.value
        if spent / called + sum(fund.wants(called) for fund in funds) > config.supply:
            low = called
            break
        high = called
    for _ in range(60):
        middle = (low + high) / 2
        if spent / middle + sum(fund.wants(middle) for fund in funds) > config.supply:
            low = middle
        else:
            high = middle
    return low


def noise(config: Config, steps: int, market: int) -> list[float]:
    """What the noise traders of a market spend in each step, from the draws of the model."""
    draws = stream(config.seed, "noise traders", f"market {market}").standard_normal(steps)
    logarithm, spent = math.log(config.value * config.supply), []
    for draw in draws:
        logarithm = config.persistence * logarithm + config.volatility * draw
        logarithm += (1 - config.persistence) * math.log(config.value * config.supply)
        spent.append(math.exp(logarithm))
    return spent


def twin(config: Config, leverage: float, market: int, steps: int) -> list[float]:
    """Prices of a market that nobody rounds."""
    funds = [Fund(config, number, leverage) for number in range(config.funds if leverage else 0)]
    prices = [config.value]
    for spent in noise(config, steps, market):
        prices.append(bisection(config, spent, funds))
        for fund in funds:
            fund.trade(*prices[-2:])
    return prices


def small(**changes: Any) -> Config:
    return Config(**{"runs": 2, "stretch": STEPS, "markets": 2} | changes)


class TestAuctions:
    """The exchange finds the price that bisection does."""

    @pytest.mark.parametrize(("tick", "descent"), [(3e-3, 0.0), (1e-4, 0.0), (1e-4, 0.02)])
    def test_each_price_is_that_of_bisection_to_a_tick(self, tick: float, descent: float) -> None:
        """The twin is given what the ledger says is held, step by step: what is left is the error of one auction."""
        config = small(tick=tick, descent=descent, wealth=2e7)  # rich from the beginning, so that they move the price
        state, rules = State.begin(config), Rules.of(config)
        session = Session(config, rules, state)
        paths = [noise(config, STEPS, market) for market in range(config.markets)]
        furthest, moved, held, owed = 0.0, 0.0, 0, 0
        for t in range(STEPS):
            spent = np.array([path[t] for path in paths] * len(config.leverages))
            expected = [bisection(config, spent[b], holders(config, state, b)) for b in range(len(spent))]
            found = session.step(spent) * config.per_tick
            furthest = max(furthest, np.abs(found - expected).max())
            moved = max(moved, np.abs(found - spent / config.supply).max())
            held, owed = max(held, state.lots.max()), min(owed, state.money.min())
        assert session.close() == 0
        assert furthest <= config.per_tick * (1 + 1e-9)
        assert moved > 0.1  # where funds trade the price is another than without them
        assert held > 0.05 * config.supply
        assert owed < -1e6 * config.wealth  # on credit

    def test_300_steps_on_their_own_agree_with_the_twin(self) -> None:
        """What rounding does to wealth feeds back, and yet a price is no more than a few ticks off after so many steps."""
        config = small()
        prices, faults = history(config)
        assert faults == 0
        for leverage, found in prices.items():
            for market in range(config.markets):
                off = found[: STEPS + 1, market] - twin(config, leverage, market, STEPS)
                assert np.abs(off).max() <= (1.01 if leverage <= 4 else 3) * config.per_tick, (leverage, market)

    def test_where_there_are_no_funds_the_price_is_what_is_spent_on_a_share(self) -> None:
        config = small(leverages=(0,), tick=1e-5)
        found = history(config)[0][0][1 : STEPS + 1, 0]
        spent = np.array(noise(config, STEPS, 0)) / config.supply
        assert np.abs(found - spent).max() <= config.per_tick * 1.01

    def test_a_stretch_more_or_less_changes_no_price(self) -> None:
        """Accounts are carried from one exchange to the next as they are."""
        one, two = history(small(runs=2, stretch=600)), history(small(runs=4, stretch=300))
        assert one[1] == two[1] == 0
        for leverage, path in one[0].items():
            np.testing.assert_array_equal(path, two[0][leverage])


def holders(config: Config, state: State, book: int) -> list[Fund]:
    """Funds of the twin that hold what those of the exchange do."""
    funds = []
    leverage = config.leverages[book // config.markets]
    for number in range(config.funds if leverage else 0):
        fund = Fund(config, number, leverage)
        fund.shares, fund.money = float(state.lots[book, number]), state.money[book, number] / 1e6
        fund.absent = int(state.absent[book, number])
        funds.append(fund)
    return funds


class TestLedger:
    """Where money comes from and goes to."""

    def test_a_fund_that_ends_sells_and_another_takes_its_place(self) -> None:
        config = small(leverages=(10,), absence=5)
        state = State.begin(config)
        session = Session(config, Rules.of(config), state)
        for share in (0.9, 0.88, 0.4):
            session.step(np.full(2, share * config.value * config.supply))
        gone = state.absent[0] > 0
        assert gone.any()
        session.step(np.full(2, 0.9 * config.supply))
        assert (state.lots[0][gone] == 0).all()
        assert (state.money[0][gone] == 0).all()
        for _ in range(4):
            session.step(np.full(2, 1.10003 * config.supply))
        assert (state.absent[0] == 0).all()
        assert (state.money[0][gone] == round(config.wealth * 1e6)).all()
        assert session.close() == 0

    def test_wealth_is_what_the_ledger_says(self) -> None:
        config = small(leverages=(5,))
        state = State.begin(config)
        session = Session(config, Rules.of(config), state)
        for spent in noise(config, 50, 1):
            session.step(np.full(2, spent))
        rows = session._rows[:, : config.funds]
        np.testing.assert_array_equal(session._exchange.accounts.cash[rows] - LENT, state.money)
        lots = session._exchange.accounts.position.reshape(2, config.funds + 2, 2)
        assert lots.sum(axis=1).tolist() == [[config.supply, 0], [0, config.supply]]
        entries = session._house.entries
        assert set(entries) == {"loans", "carried over", "investors"}
        assert sum(entry["cash"] for entry in entries.values()) == session._exchange.accounts.cash.sum()


class TestStatistics:
    def test_the_exponent_of_a_power_law(self) -> None:
        sizes = (1 - (np.arange(100_000) + 0.5) / 100_000) ** (-1 / 3)
        assert tail_exponent(sizes, (1e-3, 0.1)) == pytest.approx(3, abs=0.01)
        assert math.isnan(tail_exponent(sizes[:20], (1e-3, 0.1)))

    def test_autocorrelation_is_that_of_each_column(self) -> None:
        series = np.random.default_rng(1).standard_normal((5000, 2))
        series[1:, 1] += 0.8 * series[:-1, 1]
        one, other = autocorrelation(series, 1)
        assert one == pytest.approx(0, abs=0.05)
        assert other == pytest.approx(0.8 / 1.64, abs=0.05)

    def test_directions(self) -> None:
        rises, falls, spread = np.array([1.0, 1.1, 0.9]), np.array([3.0, 3.1, 2.9]), np.array([0.1, -0.1, 0.0])
        low = {"sd of returns": falls, "kurtosis": rises, "tail exponent of falls": falls}
        high = {"sd of returns": rises, "kurtosis": falls, "tail exponent of falls": rises}
        same = {name: values + spread for name, values in low.items()}
        assert against([low, high]) == 0
        assert against([low, same, high]) == 0
        assert against([high, low]) == 4  # each of the two from one to the next, and from the first to the last
        assert against([high, high]) == 2
        assert against([low, {**high, "kurtosis": np.full(3, np.nan)}]) == 2
        assert against([low]) == 0


class TestPaper:
    @pytest.mark.parametrize(
        ("change", "line"),
        [
            ("leverages=[4, 1]", "leverages must rise"),
            ("tail=[0.1, 0.001]", "tail must be two shares, the smaller first, up to 1"),
            ("volatility=0.4", "volatility / sqrt(1 - persistence^2) must be at most 0.3, or prices have no end"),
            ("supply=9000000000", "value x supply must be at most 5e+09; lower it"),
            ("value=3.14159", "value x tick must be a whole number of 0.000001; use another tick"),
        ],
    )
    def test_parameters_that_the_exchange_cannot_carry_are_refused(self, change: str, line: str) -> None:
        with pytest.raises(ScenarioError, match=NAME) as wrong:
            find(NAME).configured([change])
        assert line in str(wrong.value)

    def test_a_small_sample_has_every_row(self) -> None:
        paper = find(NAME)
        config = paper.configured(["runs=3"])
        measured = paper.model.measure(config, lambda *_: None)
        rows = judge(paper, config, measured, quick=True)
        assert {row.quantity for row in rows} >= set(read(paper.folder / "reference.csv"))
        assert [row.quantity for row in rows if row.hard and row.quantity != AGAINST and not row.passed] == []

    def test_other_parameters_are_reproduced_too(self) -> None:
        paper = find(NAME)
        changes = ["leverages=[0,3]", "volatility=0.05", "persistence=0.95", "value=5", "supply=2000000", "funds=3"]
        config = paper.configured([*changes, "wealth=10000", "markets=3", "stretch=500", "runs=6"])
        rows = judge(paper, config, paper.model.measure(config, lambda *_: None), quick=True)
        judged = {row.quantity: row.passed for row in rows if row.passed is not None}
        assert judged == dict.fromkeys((*model.WITHOUT_FUNDS, DISTURBED), True)

    @pytest.mark.statistical
    @pytest.mark.parametrize("seed", [2, 3])
    def test_the_paper_is_reproduced(self, seed: int) -> None:
        """A third of the full length, with other seeds than the command's."""
        paper = find(NAME)
        config = paper.configured([f"seed={seed}", "runs=66"])
        rows = judge(paper, config, paper.model.measure(config, lambda *_: None), quick=True)
        assert [row.quantity for row in rows if row.hard and not row.passed] == []
        assert sum(row.passed is False for row in rows) <= 2
