"""FCN traders: each order is what the formula says, everyone has its turn, and orders end with their window."""

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import abm
from abm.agents import fcn
from abm.agents.fcn import FcnConfig, FcnTraders
from abm.exchange.messages import MESSAGE, Kind, Reason, Side, TimeInForce
from abm.random import stream
from tests.unit.walls import market, only

COIN = "btc-spot"


def alone(**settings: Any) -> abm.Market:
    return market({"fcn": {"every": 1, **settings}})[0]


def sent(of: abm.Market, value: float = 73_100.0, past: float = 73_100.0) -> Any:
    """What they send when the value is `value`, the mid 73 100, and was `past` until now."""
    of._fundamentals[COIN][:] = value
    of.run_for(1)
    of.recorder.mids[0, :-1] = past
    book = of.view()[COIN]
    of.recorder.mids[0, book.step] = 73_100.0
    messages = only(of, FcnTraders).decide(of.view())
    assert messages is not None
    return messages


def test_who_knows_only_the_value_expects_it_in_the_time_of_reversion() -> None:
    just = sent(alone(chart=0, noise=0, margin=[0.01, 0.01], accounts=20), value=74_000.0)
    assert (just["side"] == Side.BUY).all()
    assert (just["reason"] == Reason.VALUE).all()
    assert (just["price"] == math.floor(74_000.0 * 0.99 * 100)).all()
    slow = sent(alone(chart=0, noise=0, margin=[0, 0], window=[100, 100], reversion=[200, 200]), value=72_000.0)
    assert (slow["side"] == Side.SELL).all()
    assert (slow["price"] == math.ceil(math.sqrt(73_100.0 * 72_000.0) * 100 - 1e-6)).all()


def test_who_follows_the_chart_expects_the_last_window_again() -> None:
    up = sent(alone(fundamental=0, noise=0, chart=1, margin=[0, 0]), past=73_000.0)
    assert (up["side"] == Side.BUY).all()
    assert (up["reason"] == Reason.TREND).all()
    assert (up["price"] == math.floor(73_100.0 * 73_100.0 / 73_000.0 * 100)).all()


def test_chance_is_normal_with_the_scale_of_its_window() -> None:
    made = alone(fundamental=0, chart=0, noise=1, noise_scale=1e-5, window=[100, 100], margin=[0, 0], accounts=20_000)
    orders = sent(made)
    expected = np.log(orders["price"] * 0.01 / 73_100.0)
    assert expected.std() == pytest.approx(100 * 1e-5, rel=0.03)
    assert abs((orders["side"] == Side.BUY).mean() - 0.5) < 0.02
    assert (np.sign(expected) == np.where(orders["side"] == Side.BUY, 1, -1)).mean() > 0.999


def plain(agents: Any, mids: Any, value: float, who: Any, normal: Any, normal_margin: bool) -> list[tuple[int, ...]]:
    """The formula of the module's first lines, one account at a time: account, side, price in ticks."""
    rows = []
    for i, a in enumerate(who):
        agent, n = agents[a], len(mids)
        back = min(int(agent["window"]), n - 1)
        log_return = agent["fundamental"] * math.log(value / mids[-1])
        log_return += agent["chart"] * math.log(mids[-1] / mids[n - 1 - back])
        log_return += agent["noise"] * normal[i]
        buys = log_return > 0
        away = agent["margin"] * normal[len(who) + i] if normal_margin else agent["margin"] * (-1 if buys else 1)
        price = mids[-1] * math.exp(log_return) * (1 + away) / 0.01
        rows.append((int(a), int(not buys), math.floor(price + 1e-6) if buys else math.ceil(price - 1e-6)))
    return rows


@pytest.mark.parametrize("normal_margin", [False, True])
@pytest.mark.parametrize("length", [1, 50, 400])
def test_the_compiled_pass_agrees_with_its_plain_twin(length: int, normal_margin: bool) -> None:
    rng = stream(7, "test", f"{length}{normal_margin}")
    agents = np.zeros(300, fcn.AGENT)
    for field, scale in (("fundamental", 1.0), ("chart", 1.0), ("noise", 0.01), ("margin", 0.01)):
        agents[field] = scale * rng.random(300)
    agents["window"] = rng.integers(1, 300, 300)
    mids = 100.0 * np.exp(np.cumsum(1e-3 * rng.standard_normal(length)))
    uniform, normal = rng.random(200), rng.standard_normal(400)
    out, order = np.zeros(300, MESSAGE), np.arange(300)
    n = fcn.orders(agents, out, order, uniform, normal, mids, 101.0, normal_margin, 1000, 3, 0.01, 7, 2**30, 5, 10**9)
    assert n == 200
    assert sorted(order) == list(range(300))
    got = [(int(m["owner"]) - 1000, int(m["side"]), int(m["price"])) for m in out[:n]]
    assert got == plain(agents, mids, 101.0, order[:200], normal, normal_margin)
    assert (out[:n]["expiry"] == 5 + agents["window"][order[:200]] * 10**9).all()
    assert set(out[:n]["kind"]) == {Kind.LIMIT} and set(out[:n]["tif"]) == {TimeInForce.GTD}
    assert (out[:n]["quantity"] == 7).all() and (out[:n]["instrument"] == 3).all()


def test_everyone_has_one_turn_a_step_or_as_many_as_its_time_says() -> None:
    each_step = sent(alone(accounts=500))
    assert sorted(each_step["owner"]) == list(range(500))
    assert list(each_step["owner"]) != sorted(each_step["owner"])
    seldom = alone(accounts=500, every=10)
    fcns = only(seldom, FcnTraders)
    turns = [fcns.decide(seldom.view()) for _ in range(400)]
    assert sum(len(t) for t in turns if t is not None) == pytest.approx(400 * 500 / 10, rel=0.05)


def test_orders_end_with_their_window() -> None:
    made = alone(accounts=30, every=1, window=[20, 20], noise_scale=1e-4)
    made.run_for("2min")
    rows = only(made, FcnTraders).rows
    assert all(len(made.exchange.orders_of(int(row))) <= 21 for row in rows)
    assert sum(len(made.exchange.orders_of(int(row))) for row in rows) > 100


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"window": (0.0, 10.0)}, "window must be"),
        ({"margin": (0.5, 1.0)}, "margin must be"),
        ({"reversion": (20.0, 10.0)}, "reversion must be"),
        ({"fundamental": 0, "chart": 0, "noise": 0}, "must not all be 0"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        FcnConfig(**wrong)
