"""The environments: their own API checkers, rewards held against the account's trades, chance, and that there is one market only."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numba.core.event import install_recorder
from pettingzoo.test import parallel_api_test, parallel_seed_test

import abm
from abm.agents.view import BPS
from abm.scenario import ScenarioError
from experiments.envs import Execution, ExecutionTask, MarketMaking, MarketMakingTask, SharedMarket
from experiments.envs.seat import Seat

ROOT = Path(__file__).resolve().parents[2]
PERP = {
    "instruments": {
        "btc-perp": {
            "kind": "perpetual",
            "tick": 0.1,
            "lot": 0.001,
            "max_price": 200_000,
            "reference_price": 73_100,
            "fees": [{"taker": 0.0005}],
            "margin": {"mark": {"index": {"btc-spot": 1.0}}},
        }
    },
    "traders": {"market_makers": {"books": {"btc-perp": {"depth_usd": 60e6}}}},
}
NOW = [1.0, 1.0]  # all that is left, as far into the book as it goes


def played(env: Execution | MarketMaking, action: Any = None, seed: int = 1) -> tuple[list[float], dict[str, Any]]:
    """Rewards and the last info of an episode, with one action or with random ones."""
    env.reset(seed=seed)
    env.action_space.seed(seed)
    rewards: list[float] = []
    while True:
        _, reward, over, _, info = env.step(env.action_space.sample() if action is None else action)
        rewards.append(reward)
        if over:
            return rewards, info


def seat(env: Execution | MarketMaking) -> Seat:
    return env.episode.seats["agent"]


def cash_flow(mine: Seat, maker: float, taker: float) -> float:
    """What the account's trades have brought in, by the table of trades and the fees of its tier; currency."""
    trades = mine.trades
    value = trades["price"] * trades["quantity"]
    return float(
        (value.where(trades["side"] == "sell", -value) - value * trades["maker"].map({True: maker, False: taker})).sum()
    )


# ------------------------------------------------------------------------------------------------------------- their APIs


@pytest.mark.parametrize("name", ["Execution", "MarketMaking"])
def test_gymnasiums_checker_has_nothing_to_say(name: str) -> None:
    env = gymnasium.make(f"exit-cascade/{name}-v0", duration="5min")
    check_env(env.unwrapped)  # warnings are errors here


def test_pettingzoos_checkers_have_nothing_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    parallel_api_test(SharedMarket(duration="1min"), num_cycles=50)
    parallel_seed_test(lambda: SharedMarket(duration="1min"), num_cycles=15)
    assert "Passed" in capsys.readouterr().out


def test_what_is_seen_has_its_unit_and_the_time_goes_down() -> None:
    env = MarketMaking(duration="1min", every="10s")
    names = [feature.name for feature in MarketMakingTask.sees]
    seen, info = env.reset(seed=3)
    assert seen.shape == (len(names),) and seen.dtype == np.float32
    left = [float(seen[0])]
    for _ in range(6):
        seen, _, over, _, info = env.step([0.0, 0.0])
        left.append(float(seen[0]))
        shown, book = dict(zip(names, seen, strict=True)), env.market.view()["btc-spot"]
        assert shown["return_1min"] == pytest.approx(book.return_over("1min") / BPS, abs=1e-3)
        assert shown["inventory"] == pytest.approx(info["inventory"] / 5.0, abs=1e-6)
        assert shown["spread"] == pytest.approx(book.spread_bps, rel=1e-4)
    assert over and left == pytest.approx(np.arange(6, -1, -1) / 6)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step([0.0, 0.0])


# -------------------------------------------------------------------------------------------------- one market, one chance


def test_an_agent_that_sends_nothing_is_in_the_very_market_that_abm_plays() -> None:
    def log(action: list[float]) -> str:
        env = Execution(duration="2min")
        _, info = env.reset(seed=5)
        for _ in range(3):
            env.step(action)
        alone.append(abm.Market(env.episode.scenario.model_copy(update={"seed": info["seed"]})))
        return str(env.market.result().summary["event_log_hash"])

    alone: list[abm.Market] = []
    silent, loud = log([0.0, 0.0]), log([0.5, 1.0])
    alone[0].run_for("150s")
    assert alone[0].result().summary["event_log_hash"] == silent != loud


def test_an_episode_is_determined_by_its_seed() -> None:
    env = MarketMaking(duration="1min")
    first, second, other = played(env), played(MarketMaking(duration="1min")), played(env, seed=2)
    assert first == second
    assert first[0] != other[0]
    assert env.reset()[1]["seed"] != other[1]["seed"]  # without a seed the next one comes
    assert played(env) == first  # whatever has been played before


def test_a_reset_compiles_nothing() -> None:
    env = Execution(duration="1min")
    played(env)
    with install_recorder("numba:compile") as compiled:
        played(env, seed=2)
    assert not compiled.buffer


# ----------------------------------------------------------------------------------------------------------------- rewards


@pytest.mark.parametrize("side", ["sell", "buy"])
@pytest.mark.parametrize("action", [NOW, [0.3, 0.0], None])
def test_the_rewards_of_an_execution_are_minus_its_shortfall_by_the_trades(side: str, action: Any) -> None:
    env = Execution(duration="4min", quantity=20.0, side=side)
    rewards, info = played(env, action)
    mine, sign = seat(env), {"buy": 1.0, "sell": -1.0}[side]
    trades = mine.trades
    assert trades["quantity"].sum() == pytest.approx(20.0)
    assert set(trades["side"]) == {side}
    shortfall = -cash_flow(mine, 0.001, 0.001) - sign * 20.0 * mine.arrival
    assert info["shortfall"] == pytest.approx(shortfall, abs=0.01)
    assert sum(rewards) == pytest.approx(-shortfall / (20.0 * mine.arrival) / BPS, abs=1e-6)
    assert shortfall > 0.0 or action is None or action[1] <= 0.0
    assert env.market.result().audit.passed


def test_what_is_not_traded_is_valued_as_it_is_now() -> None:
    env = Execution(duration="5min", quantity=20.0)
    env.reset(seed=1)
    total = 0.0
    for _ in range(9):
        _, reward, _, _, info = env.step([0.0, 0.0])
        total += reward
        assert info["shortfall"] == pytest.approx(20.0 * (seat(env).arrival - info["mid"]), abs=1e-4)
        assert total == pytest.approx(-info["shortfall_bps"])
    assert info["filled"] == 0.0 and abs(total) > 0.1


@pytest.mark.parametrize("aversion", [0.0, 0.5])
def test_the_rewards_of_a_market_maker_are_its_wealth_less_the_penalty(aversion: float) -> None:
    env = MarketMaking(duration="5min", aversion=aversion, limit=2.0)
    env.reset(seed=1)
    total = penalty = 0.0
    while not env.episode.over:
        _, reward, _, _, info = env.step([0.02, 0.02])
        total += reward
        penalty += aversion * (info["inventory"] / 2.0) ** 2 * 2.0
        assert abs(info["inventory"]) <= 2.0 + 1e-9
    mine = seat(env)
    assert mine.trades["maker"].all() and len(mine.trades) > 5
    wealth = cash_flow(mine, 0.0, 0.0002) + info["inventory"] * info["mid"]
    assert info["wealth"] == pytest.approx(wealth, abs=0.01)
    assert total == pytest.approx(wealth / (2.0 * mine.arrival) / BPS - penalty, abs=1e-6)


@pytest.mark.parametrize("side", ["sell", "buy"])
def test_with_margin_it_may_go_short(side: str) -> None:
    env = Execution(overrides=PERP, instrument="btc-perp", quantity=5.0, side=side, duration="2min")
    rewards, info = played(env, [0.5, 1.0])
    sign = {"buy": 1.0, "sell": -1.0}[side]
    assert seat(env).position() == pytest.approx(sign * 5.0)
    shortfall = -cash_flow(seat(env), 0.0, 0.0005) - sign * 5.0 * seat(env).arrival
    assert info["shortfall"] == pytest.approx(shortfall, abs=0.01)
    assert sum(rewards) == pytest.approx(-info["shortfall_bps"])


# -------------------------------------------------------------------------------------------------------------- its account


def test_its_orders_end_with_the_interval_and_it_never_trades_more_than_it_should() -> None:
    env = Execution(side="buy", quantity=30.0, duration="5min", every="5s")
    env.reset(seed=2)
    for _ in range(59):
        _, _, over, _, info = env.step([1.0, 0.0])  # rests at the mid, all of it
        assert len(env.market.exchange.open_orders(seat(env).first)) == 0
        assert 0.0 <= info["filled"] <= 30.0 + 1e-9
        if over:
            break
    assert info["filled"] > 0.0


def test_an_episode_whose_audit_fails_is_an_error() -> None:
    env = Execution(duration="1min")
    env.reset(seed=1)
    env.step([0.0, 0.0])
    env.market.cash[seat(env).first] += 1
    with pytest.raises(RuntimeError, match="first-hour: the audit failed"):
        env.step([0.0, 0.0])


# --------------------------------------------------------------------------------------------------------------- several


def test_agents_of_one_market_trade_with_each_other_and_leave_when_they_are_done() -> None:
    agents = {"maker": MarketMakingTask(size=5.0, limit=50.0), "seller": ExecutionTask(quantity=2.0)}
    env = SharedMarket(agents=agents, duration="1min")
    env.reset(seed=1)
    _, rewards, over, _, infos = env.step({"maker": [0.0, 0.0], "seller": NOW})
    assert over == {"maker": False, "seller": True}
    assert env.agents == ["maker"]
    assert infos["seller"]["filled"] == pytest.approx(2.0)
    assert rewards["seller"] == pytest.approx(-infos["seller"]["shortfall_bps"])
    maker, seller = (env.episode.seats[name].first for name in ("maker", "seller"))
    trades = env.market.result().trades
    assert ((trades["maker_account"] == maker) & (trades["taker_account"] == seller)).any()
    while env.agents:
        seen, *_, infos = env.step({})  # no action: nothing is sent
        assert [*seen] == ["maker"]
    assert env.market.result().audit.passed
    accounts = env.market.result().accounts
    assert set(accounts[accounts["trader"].isin(agents)]["kind"]) == {"learner"}


# ---------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("terms", "line"),
    [
        ({"quantity": -1}, "Execution: quantity = -1 should be greater than 0"),
        ({"quantiy": 1}, "Execution: quantiy is not a key. Did you mean quantity?"),
        ({"every": "7s"}, "first-hour: duration = 1800 s is not a whole number of decisions (every) of 7 s"),
        ({"every": 0.5}, "first-hour: every = 0.5 s is not a whole number of steps (clock.step) of 1 s"),
        (
            {"duration": "2h"},
            "first-hour: begins + duration and a step are 7261 s, and it lasts 3600 s; choose a shorter duration, or a later clock.end",
        ),
        ({"instrument": "btc-spt"}, "agent: instrument: 'btc-spt' is not traded here. Did you mean btc-spot?"),
        ({"quantity": 1e-5}, "agent: quantity = 1e-05 is less than a lot of btc-spot (0.0001); raise it"),
        ({"scenario": "first-our"}, "first-our: no such scenario. Did you mean first-hour? (abm list)"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line(terms: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError) as error:
        Execution(**terms)
    assert str(error.value) == line


def test_where_steps_are_long_an_agent_decides_at_each() -> None:
    """The clock of `calm` has steps of 10 s, of `february-2026-quick` of 30 s."""
    assert [env("calm").episode.every for env in (Execution, MarketMaking, SharedMarket)] == [30.0, 10.0, 10.0]
    quick = MarketMaking("february-2026-quick", duration="10min").episode
    assert (quick.every, quick.decisions) == (30.0, 20)


def test_an_action_of_other_numbers_is_refused() -> None:
    env = Execution(duration="1min")
    with pytest.raises(RuntimeError, match="call reset"):
        env.step([0.0, 0.0])
    env.reset(seed=1)
    for wrong in ([0.0], [0.0, float("nan")]):
        with pytest.raises(ValueError, match=r"agent: an action is 2 numbers \(share, price\)"):
            env.step(wrong)


def test_only_the_environments_need_gymnasium() -> None:
    program = (
        "import sys; sys.modules['gymnasium'] = None\n"
        "import abm.market, experiments.cli\n"
        "try:\n    import experiments.envs\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert answer.stdout == (
        "gymnasium is not installed; the environments need the extra gym: pip install 'exit-cascade[gym]'\n"
    )


# -------------------------------------------------------------------------------------------------------------- the page

PAGE = (ROOT / "docs" / "how-to" / "gymnasium.md").read_text("utf-8")


def test_the_examples_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "gymnasium.md", "exec"), {})
    assert capsys.readouterr().out.startswith("100 sold at a shortfall of ")


def test_the_page_has_the_spaces_of_the_environments() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (-?\d+), (-?\d+) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    told = {(name, float(low), float(high), unit, about) for name, low, high, unit, about in rows}
    reach = {kind: kind.model_fields["reach_bps"].default for kind in (ExecutionTask, MarketMakingTask)}
    assert reach == {ExecutionTask: 20.0, MarketMakingTask: 10.0}
    written = {
        (f.name, f.low, f.high, f"`reach_bps` ({reach[task]:g} bp)" if f.unit == "reach_bps" else f.unit, f.about)
        for task in (ExecutionTask, MarketMakingTask)
        for f in (*task.sees, *task.does)
    }
    assert told == written
