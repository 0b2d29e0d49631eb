"""Papers with a closed form: it is found by another road, the exchange agrees with a plain twin, and a small sample is reproduced."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

import abm
from abm.agents.base import Numbers, Population, TraderConfig
from abm.agents.informed import InformedConfig, InformedTraders, equilibrium
from abm.agents.view import View
from abm.exchange import Exchange, Instrument, Latency, Phase, Reason
from abm.exchange.messages import Records, join
from abm.random import stream
from abm.scenario import Scenario, ScenarioError
from experiments.papers import find
from experiments.papers.almgren_chriss_2000 import model as selling
from experiments.papers.avellaneda_stoikov_2008 import model as dealing
from experiments.papers.judgement import judge, read
from experiments.papers.kyle_1985 import model as kyle


@pytest.mark.parametrize(("name", "runs"), [("avellaneda-stoikov", 120), ("kyle", 1500), ("almgren-chriss", 150)])
def test_a_small_sample_is_reproduced(name: str, runs: int) -> None:
    paper = find(name)
    config = paper.configured([f"runs={runs}"])
    rows = judge(paper, config, paper.model.measure(config, lambda *_: None), quick=True)
    assert [row.quantity for row in rows if row.hard and not row.passed] == []
    assert {row.quantity for row in rows} == set(read(paper.folder / "reference.csv"))


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["avellaneda-stoikov", "kyle", "almgren-chriss"])
@pytest.mark.parametrize("seed", [2, 3])
def test_the_papers_are_reproduced(name: str, seed: int) -> None:
    """At full length, with other seeds than the command's. Of some seventy rows at four standard errors none should fail."""
    paper = find(name)
    config = paper.configured([f"seed={seed}"])
    rows = judge(paper, config, paper.model.measure(config, lambda *_: None))
    assert [row.quantity for row in rows if row.hard and not row.passed] == []


@pytest.mark.parametrize(
    ("name", "change", "runs"),
    [
        ("avellaneda-stoikov", ["risk_aversions=[0.3]", "decay=2", "inventory=4", "volatility=1.5", "dt=0.01"], 400),
        ("kyle", ["auctions=[3]", "variance=4", "noise=50", "noise_traders=1"], 2000),
        ("almgren-chriss", ["slices=8", "horizon=4", "risk_aversion=3e-6", "shares=200000"], 150),
    ],
)
def test_other_parameters_are_reproduced_too(name: str, change: list[str], runs: int) -> None:
    paper = find(name)
    config = paper.configured([*change, f"runs={runs}"])
    rows = judge(paper, config, paper.model.measure(config, lambda *_: None), quick=True)
    assert sum(row.passed is True for row in rows) >= 6
    assert [row.quantity for row in rows if row.passed is False] == []


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("avellaneda-stoikov", "dt=0.3", "horizon must be a whole number of dt"),
        ("avellaneda-stoikov", "volatility=30", "price must exceed 12 x volatility x sqrt(horizon)"),
        ("kyle", "price=3", "price must be at least 10 x sqrt(variance)"),
        ("kyle", "step=0.3", "step = 0.3 should be less than"),
        ("almgren-chriss", "slices=2", "horizon / slices must be at most a day"),
        ("almgren-chriss", "permanent=1e-5", "temporary must exceed permanent"),
        ("almgren-chriss", "price=10", "price must be higher"),
    ],
)
def test_parameters_that_the_market_cannot_carry_are_refused(name: str, change: str, line: str) -> None:
    with pytest.raises(ScenarioError) as wrong:
        find(name).configured([change])
    assert line in str(wrong.value)


class TestAvellanedaStoikov:
    def test_moments_forwards(self) -> None:
        """The chain's distribution, and the profit's moments on it, carried from the start to the end."""
        config = dealing.Config(horizon=0.2, inventory=2, volatility=1.5, decay=1.2)
        chances = {config.inventory: (1.0, 0.0, 0.0)}  # of each inventory: P, E[profit; it], E[profit^2; it]
        for step in range(config.steps):
            after: dict[int, tuple[float, float, float]] = {}
            for held, (chance, first, second) in chances.items():
                bid, ask = dealing.quotes(config, 0.3, "inventory", step, float(held))
                fills = [float(dealing.fill_chance(config, distance)) for distance in (bid, ask)]
                for bought, sold in itertools.product((0, 1), repeat=2):
                    weight = math.prod(p if hit else 1 - p for p, hit in zip(fills, (bought, sold), strict=True))
                    earned, now = bought * bid + sold * ask, held + bought - sold
                    risk = (now * config.move) ** 2
                    new = (chance, first + chance * earned, second + 2 * earned * first + chance * (earned**2 + risk))
                    known = after.get(now, (0.0, 0.0, 0.0))
                    after[now] = tuple(a + weight * b for a, b in zip(known, new, strict=True))  # type: ignore[assignment]
            chances = after
        _, mean, square = np.sum(list(chances.values()), axis=0)
        held = np.array(list(chances))
        weights = np.array([chance for chance, _, _ in chances.values()])
        deviation = math.sqrt(weights @ held**2 - (weights @ held) ** 2)
        expected = (mean, math.sqrt(square - mean**2), deviation)
        assert dealing.moments(config, 0.3, "inventory") == pytest.approx(expected, rel=1e-10)

    @pytest.mark.parametrize("strategy", dealing.STRATEGIES)
    def test_the_exchange_trades_what_a_plain_twin_does(self, strategy: dealing.Strategy) -> None:
        config = dealing.Config(inventory=1, horizon=0.3)
        found = dealing.day(config, 0.5, strategy, 20, "batch 7")
        row = f"gamma 0.5 {strategy}"
        takers, moves = (stream(config.seed, row, f"{purpose} batch 7") for purpose in ("takers", "moves"))
        mid, cash, held = np.full(20, config.price), np.zeros(20), np.ones(20)
        for step in range(config.steps):
            bid, ask = dealing.quotes(config, 0.5, strategy, step, held)
            bids, asks = (np.rint(x / config.tick) * config.tick for x in (mid - bid, mid + ask))
            luck = takers.random((2, 20))
            bought = luck[0] < dealing.fill_chance(config, mid - bids)
            sold = luck[1] < dealing.fill_chance(config, asks - mid)
            cash += sold * asks - bought * bids
            held += bought * 1.0 - sold
            mid += np.where(moves.random(20) < 0.5, config.move, -config.move)
        np.testing.assert_array_equal(found.inventory, held)
        np.testing.assert_allclose(found.profit, cash + held * mid - config.price, atol=1e-8)
        assert found.faults == 0
        assert np.ptp(held) > 1

    def test_a_quote_that_the_book_refuses_is_a_fault(self) -> None:
        config = dealing.Config(price=5.0, volatility=0.2, risk_aversions=(10.0,), decay=0.1)
        assert dealing.day(config, 10.0, "symmetric", 5, "batch 0").faults == 0
        assert dealing.day(config.model_copy(update={"price": 0.3}), 10.0, "symmetric", 5, "batch 0").faults > 0


class TestKyle:
    @pytest.mark.parametrize("auctions", [1, 2, 5, 20])
    def test_the_market_maker_learns_what_the_flow_tells(self, auctions: int) -> None:
        """lambda_n is the regression of the value on the flow, and what is left unknown is what that leaves."""
        solved = equilibrium(auctions, 2.5, 7.0)
        known = np.array([2.5, *solved.variance[:-1]])
        flow = solved.intensity**2 * known + 7.0**2 / auctions
        np.testing.assert_allclose(solved.impact, solved.intensity * known / flow, rtol=1e-9)
        np.testing.assert_allclose(solved.variance, known - solved.impact**2 * flow, rtol=1e-9)

    @pytest.mark.parametrize("auctions", [1, 3])
    def test_the_insider_cannot_do_better(self, auctions: int) -> None:
        """Profits as a function of all intensities, the market maker's slopes being what they are, have their maximum there."""
        solved = equilibrium(auctions)

        def profit(intensity: Any) -> float:
            variance, total = 1.0, 0.0
            for sent, impact in zip(intensity, solved.impact, strict=True):
                total += sent * (1 - impact * sent) * variance  # x (v - p) with p = p_before + impact (x + u)
                variance = (1 - impact * sent) ** 2 * variance + impact**2 / auctions
            return total

        assert profit(solved.intensity) == pytest.approx(solved.profit, rel=1e-9)
        best = minimize(lambda x: -profit(x), solved.intensity * 0.7, method="Nelder-Mead", options={"xatol": 1e-9})
        np.testing.assert_allclose(best.x, solved.intensity, rtol=1e-3)
        assert -best.fun == pytest.approx(solved.profit, rel=1e-8)

    def test_many_auctions_come_near_the_continuous_market(self) -> None:
        """Theorem 3: constant impact sqrt(Sigma0) / sigma_u, all is known in the end, and the profit is sigma_u sqrt(Sigma0)."""
        solved = equilibrium(2000, 4.0, 3.0)
        assert solved.impact[0] == pytest.approx(2 / 3, rel=5e-3)
        assert solved.variance[-1] < 0.005 * 4
        assert solved.profit == pytest.approx(6.0, rel=5e-3)
        np.testing.assert_allclose(solved.variance[999], 2.0, rtol=5e-3)

    def test_the_auction_clears_where_a_plain_twin_does(self) -> None:
        config, size = kyle.Config(step=0.1, noise_traders=2, lot=0.01), 40
        solved, rng = equilibrium(3), np.random.default_rng(5)
        value = config.price + rng.standard_normal(size)
        noise = rng.standard_normal((3, 2, size)) / math.sqrt(6)
        books = [
            Instrument(name=f"b-{k}", kind="future", tick=config.tick, lot=0.01, max_price=200, opening="call")
            for k in range(size)
        ]
        found = kyle.rounds(config, Exchange(books, accounts=4), solved, value, noise)
        assert found.faults == 0
        price, profit = np.full(size, config.price), np.zeros(size)
        for n in range(3):
            insider = np.rint(solved.intensity[n] * (value - price) / 0.01) * 0.01
            flow = insider + (np.rint(noise[n] / 0.01) * 0.01).sum(axis=0)
            moved = found.price[:, n + 1] - price
            # the nearest of the market maker's prices, which stand 1, 3, 5 ... ticks away
            assert (np.abs(moved - solved.impact[n] * flow) <= config.tick + solved.impact[n] * 0.01).all()
            steps = np.rint(moved / config.tick)
            assert (steps[np.abs(flow) > 1e-9] % 2 == 1).all()
            price = found.price[:, n + 1]
            profit += insider * (value - price)
            np.testing.assert_allclose(found.flow[:, n], flow, atol=1e-9)
        np.testing.assert_allclose(found.profit, profit, atol=1e-7)

    def test_a_flow_beyond_the_offer_is_a_fault(self) -> None:
        config = kyle.Config(runs=10)
        books = [kyle._instrument(config, 0)]
        wild = np.full((1, 3, 1), 10.0)
        found = kyle.rounds(config, Exchange(books, accounts=5), equilibrium(1), np.array([100.0]), wild)
        assert found.faults > 0


class TestAlmgrenChriss:
    def test_no_trajectory_is_better(self) -> None:
        config = selling.Config(slices=6, horizon=3, risk_aversion=4e-6)

        def regret(inner: Any) -> float:
            mean, deviation = selling.cost(config, np.array([config.shares, *(inner * config.shares), 0.0]))
            return (mean + config.risk_aversion * deviation**2) / 1e6

        even = 1 - np.arange(1, 6) / 6
        best = minimize(regret, even, method="BFGS", options={"gtol": 1e-9})
        np.testing.assert_allclose(selling.trajectory(config)[1][1:-1] / config.shares, best.x, atol=1e-4)

    def test_one_sale_pays_the_spread_and_the_depth_it_uses_up(self) -> None:
        config = selling.Config(slices=1, horizon=1, shares=100_000, volatility=0.1, step=0.001)
        found = selling.sales(config, 3, "twin")
        per_share = config.half_spread + config.temporary * config.shares  # the price has not moved yet
        assert found.cost == pytest.approx(per_share * config.shares, rel=1e-3)
        assert found.held.tolist() == [[0.0]] * 3


# --------------------------------------------------------------------------------------------------- the insider at large

COIN = "btc-spot"


class Yielding(Population):
    """A market maker whose price moves with what it trades: `slope` currency a coin."""

    slope = 0.1

    def setup(self) -> None:
        self._start, self.every_step = 1e5, True

    def endow(self) -> tuple[Numbers, Numbers]:
        return 1e12, self._start

    def decide(self, view: View) -> Records | None:
        price = 1000.0 - self.slope * float(self.holdings()[0] - self._start)
        book, away, who = view[COIN], 0.1 * np.arange(1, 200), np.zeros(199, np.int64)
        terms = {"who": who, "reason": Reason.MARKET_MAKING}
        depth = 0.1 / self.slope
        return join(
            [
                self.cancel_all(book),
                self.limit_buy(book, price - away, depth, **terms),
                self.limit_sell(book, price + away, depth, **terms),
            ]
        )


def with_insider(opening: str = "continuous", **config: Any) -> tuple[abm.Market, InformedTraders]:
    coin = Instrument(
        name=COIN, tick=0.01, lot=0.001, max_price=10_000, max_order=1e6, reference_price=1000, opening=opening
    )
    clock = {"start": "2026-02-05T00:00Z", "end": "2026-02-05T04:00Z", "step": "1s"}
    market = abm.Market(Scenario(name="room", clock=clock, instruments={COIN: coin}))
    Yielding(market, "maker", TraderConfig(instrument=COIN, latency=Latency()))
    market._fundamentals[COIN][:] = 1000.0
    insider = InformedTraders(market, "insider", InformedConfig(instrument=COIN, coins=1000, **config))
    return market, insider


def test_an_insider_brings_the_price_to_the_value_little_by_little() -> None:
    market, insider = with_insider(intensity=20.0, every=10.0, start=60.0, hurdle_bps=5.0)
    market._fundamentals[COIN][30:] = 1010.0
    market.run_for(60)
    assert insider.holdings()[0] == 1000
    mids = []
    for _ in range(30):
        market.run_for(10)
        mids.append(market.view()[COIN].mid)
    assert (np.diff(mids[:5]) > 0).all()
    assert mids[0] < 1005
    assert 1009 < mids[-1] <= 1010.1
    trades = market.recorder.trades_table()
    assert set(trades["taker_reason"]) == {"informed"}
    assert trades["price"].max() <= 1010.0
    gain = insider.cash[0] + insider.holdings()[0] * 1010 - (insider.config.cash + 1000 * 1010)
    assert gain > 0


def test_an_insider_may_know_the_value_before_others_and_stop_in_time() -> None:
    market, insider = with_insider(intensity=5.0, every=10.0, ahead="20min", end="5min")
    market._fundamentals[COIN][900:] = 990.0
    market.run_for("5min")
    sold = 1000 - insider.holdings()[0]
    assert sold > 0
    market.run_for("5min")
    assert 1000 - insider.holdings()[0] == pytest.approx(sold, abs=5.1)  # the look at 5 min may come in the step after
    ignorant, other = with_insider(intensity=5.0, every=10.0)
    ignorant._fundamentals[COIN][900:] = 990.0
    ignorant.run_for("14min")
    assert other.holdings()[0] == 1000


def test_in_a_call_an_insider_waits_for_the_auction() -> None:
    market, insider = with_insider(opening="call", intensity=5.0, every=3600.0)
    market._fundamentals[COIN][:] = 1002.0
    market.run_for(1)
    assert len(market.exchange.orders_of(int(insider.rows[0]))) == 1
    assert market.exchange.view().phase[0] == Phase.CALL


def test_an_insider_cannot_stop_before_it_starts() -> None:
    with pytest.raises(ValueError, match="end = 5 is before start = 10"):
        InformedConfig(start=10, end=5)
