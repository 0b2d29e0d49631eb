"""The market: the step, time, who joins, determinism, conservation. On the first minutes of a small scenario."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import abm
from abm.agents.noise import NoiseTraders
from abm.agents.view import View
from abm.exchange.messages import MESSAGE, Records, Side

SHORT = {"clock": {"end": "2026-02-05T00:10Z"}}
COIN = "btc-spot"


def scenario(**changes: object) -> abm.Scenario:
    return abm.load("first-hour", **(SHORT | changes))


@pytest.fixture(scope="module")
def result() -> abm.Result:
    return abm.run(scenario())


def test_a_run_conserves_cash_and_coins(result: abm.Result) -> None:
    assert result.audit.faults == ()
    assert result.audit.residue == 0
    assert result.summary["audit_passed"]
    assert result.summary["trades"] > 100


def test_the_same_seed_gives_the_same_event_log_and_another_seed_another(result: abm.Result) -> None:
    again, other = abm.run(scenario()), abm.run(scenario(seed=2))
    assert again.summary == result.summary
    pd.testing.assert_frame_equal(again.trades, result.trades)
    assert other.summary["event_log_hash"] != result.summary["event_log_hash"]


def test_running_in_pieces_is_running_at_once(result: abm.Result) -> None:
    market = abm.Market(scenario())
    market.run_for("1min")
    market.run_for(7)
    market.step()
    market.run_for(600 - 68)
    assert market.result().summary["event_log_hash"] == result.summary["event_log_hash"]


def test_one_more_trader_leaves_everybody_elses_draws_as_they_were() -> None:
    """Two markets, one with another population before all others: what the noise traders decide in the first steps is the same."""

    class Bystander(abm.Population):
        def endow(self) -> tuple[float, float]:
            self.random("anything").random(100)
            return 1.0, 1.0

    def decisions(with_another: bool) -> list[Records]:
        market = abm.Market(scenario(traders={"retail": None, "value": None, "market_makers": None}))
        if with_another:
            Bystander(market)
        noise = next(p for p in market.populations if isinstance(p, NoiseTraders))
        rows = []
        for step in range(50):
            sent = noise.decide(
                View(
                    market.exchange.instruments,
                    market.exchange.tops().tolist(),
                    market.recorder.mids * 0 + 73_100.0,
                    0,
                    1.0,
                    step,
                )
            )
            if sent is not None:
                rows.append(sent)
        return rows

    for one, other in zip(decisions(False), decisions(True), strict=True):
        assert np.array_equal(one[["price", "quantity", "side", "tif"]], other[["price", "quantity", "side", "tif"]])


def test_a_trader_added_to_the_scenario_leaves_the_others_endowments_and_looks_alone() -> None:
    alone, company = abm.Market(scenario()), abm.Market(scenario(traders={"more": {"kind": "value", "accounts": 7}}))
    for one in alone.populations:
        other = next(p for p in company.populations if p.name == one.name)
        assert np.array_equal(one.cash, other.cash)
        assert np.array_equal(one._delays.take(20), other._delays.take(20))
    retail = [next(p for p in m.populations if p.name == "retail") for m in (alone, company)]
    assert np.array_equal(retail[0].panic_at, retail[1].panic_at)
    values = {p.name: p for p in company.populations if p.kind == "value"}
    assert not np.isclose(values["more"].discount, values["value"].discount[:7]).any()


def test_time_runs_in_steps_and_ends_with_the_scenario() -> None:
    market = abm.Market(scenario())
    market.run_for("2min")
    assert (market.time, market.steps_done, market.seconds) == (120.0, 120, 120.0)
    assert market.exchange.time == 120 * 10**9
    with pytest.raises(ValueError, match=r"ends in 480 steps; choose a later clock.end"):
        market.run_for("9min")


def test_mesa_finds_the_agents_and_collects_the_series() -> None:
    market = abm.Market(scenario())
    market.run_for("3min")
    assert len(market.agents) == len(market.populations) == 7
    assert len(market.agents_by_type[NoiseTraders]) == 1
    assert market.agents_by_type[NoiseTraders][0].scenario is market.scenario
    frame = market.datacollector.get_model_vars_dataframe()
    assert list(frame.columns) == ["price", "volume", "spread_bps", "bid_depth", "ask_depth"]
    assert len(frame) == 4
    assert frame["price"].iloc[0] == 73_100.0
    assert (frame["volume"].iloc[1:] > 0).all()


class Buyer(abm.Trader):
    """Buys once, offers half of it far above, then cancels."""

    every = "30s"

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.acts: list[float] = []
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def act(self, view: View) -> None:
        self.acts.append(view.seconds)
        book = view[COIN]
        if len(self.acts) == 1:
            assert book.ask is not None
            self.buy(COIN, 0.01)
        elif len(self.acts) == 2:
            self.offer = self.sell(COIN, 0.005, price=book.mid * 1.1)
        elif len(self.acts) == 3:
            self.cancel(self.offer)
        else:
            self.hold()


def test_a_trader_in_plain_python_buys_offers_and_cancels() -> None:
    market = abm.Market(scenario())
    market.run_for("1min")
    mine = Buyer(market, cash=10_000)
    assert mine.equity == 10_000.0
    market.run_for("20s")
    assert mine.position(COIN) == pytest.approx(0.01)
    assert float(mine.cash[0]) < 10_000 - 0.01 * 70_000
    assert mine.trades["side"].tolist() == ["buy"] * len(mine.trades)
    assert mine.trades["quantity"].sum() == pytest.approx(0.01)
    assert not mine.trades["maker"].any()
    market.run_for("20s")
    order = market.exchange.order(mine.offer)
    assert order is not None
    assert (int(order["owner"]), int(order["side"]), int(order["quantity"])) == (mine.first, Side.SELL, 50)
    assert mine.free_holdings()[0] == pytest.approx(0.005)
    market.run_for("40s")
    assert market.exchange.order(mine.offer) is None
    assert mine.acts == [60.0, 90.0, 120.0]
    assert abs(mine.equity - 10_000) < 10
    assert market.agents_by_type[Buyer][0] is mine
    assert market.result().audit.passed


class Greedy(abm.Trader):
    """Asks for more than it has, on both sides."""

    def act(self, view: View) -> None:
        self.buy(COIN, 1000.0)
        self.buy(COIN, 1.0, price=view[COIN].mid * 0.9)
        self.sell(COIN, 1000.0)


def test_orders_never_exceed_means() -> None:
    market = abm.Market(scenario())
    market.run_for("1min")
    Greedy(market, cash=1000, coins=0.5)
    before = dict(market.result().summary["rejects"])
    market.run_for("1min")
    result = market.result()
    assert result.summary["rejects"].get("insufficient_funds", 0) == before.get("insufficient_funds", 0)
    assert result.audit.passed


def test_names_are_made_unique_and_accounts_run_out_with_advice() -> None:
    market = abm.Market(scenario(spare_accounts=2))
    assert [Greedy(market).name, Greedy(market).name] == ["greedy", "greedy-2"]
    with pytest.raises(ValueError, match=r"1 accounts wanted, 0 left; raise spare_accounts"):
        Greedy(market)


def test_a_market_of_nobody_and_of_empty_populations_runs() -> None:
    nobody = dict.fromkeys(scenario().traders)
    result = abm.run(scenario(traders=nobody))
    assert (result.summary["trades"], result.summary["instruments"][COIN]["close"]) == (0, 73_100.0)
    zero: dict[str, dict[str, object]] = {name: {"accounts": 0} for name in nobody}
    zero["market_makers"]["capital"] = []
    zero["etf"]["shares"] = []
    empty = abm.run(scenario(traders=zero))
    assert empty.summary["messages"] == 600  # the clock of each step
    assert empty.audit.passed


def test_takers_alone_survive_an_empty_book_and_makers_a_one_sided_one() -> None:
    takers = abm.run(scenario(traders={"market_makers": None, "value": None, "long_term_holders": None}))
    assert takers.audit.passed
    only_bids = abm.run(
        scenario(traders={"market_makers": None, "value": None, "noise": None, "retail": None, "miners": None})
    )
    assert only_bids.audit.passed


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    abm.run(scenario(), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (600, 600)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_a_population_may_not_send_for_others() -> None:
    class Forger(abm.Population):
        def decide(self, view: View) -> Records | None:
            sent = self.market(view[COIN], Side.BUY, 1.0)
            sent["owner"] = self.first - 1
            return sent

        def endow(self) -> tuple[float, float]:
            return 1e6, 0.0

    market = abm.Market(scenario())
    Forger(market)
    with pytest.raises(ValueError, match="its own accounts"):
        market.run_for(1)


def test_a_perpetual_in_a_run_has_its_premium_sampled_and_its_funding_paid(tmp_path: Path) -> None:
    margin = {"brackets": "btc", "mark": {"index": {"btc-spot": 1}}, "funding": {"interval": 120, "sample": 5}}
    perp = {
        "kind": "perpetual",
        "tick": 0.1,
        "lot": 0.001,
        "max_price": 250_000,
        "reference_price": 73_100,
        "margin": margin,
    }
    market = abm.Market(scenario(instruments={"btc-perp": perp}, insurance_fund=1e6))
    house, exchange, fund = market.house, market.exchange, market.exchange.fund
    rows = np.array([fund - 2, fund - 1], np.int32)
    house.credit(rows, "by hand", cash=1e6)
    house.set_terms(rows, "btc-perp", 20)
    tape = np.zeros(4, MESSAGE)
    tape["instrument"], tape["order"] = exchange.index("btc-perp"), exchange.take_ids(4) + np.arange(4)
    tape["owner"], tape["side"] = np.tile(rows, 2), (0, 1, 0, 1)
    tape["price"], tape["quantity"] = (731_000, 731_000, 730_990, 731_010), 1000
    exchange.match(tape)
    market.run_for("5min")
    state = exchange.margin_state(exchange.index("btc-perp"))
    assert state["premium_count"] == 13  # since the payment after four minutes, that moment and this one counted
    assert exchange.accounts.funding[rows, exchange.index("btc-perp")].tolist()[0] != 0
    assert abs(exchange.view().mark[exchange.index("btc-perp")] * 0.1 / 73_100 - 1) < 0.01
    result = market.result()
    assert result.audit.passed
    assert result.audit.open_interest == {"btc-perp": 1000}
    result.save(tmp_path / "run")
    assert list(abm.read_result(tmp_path / "run").liquidations.columns) == list(result.liquidations.columns)
