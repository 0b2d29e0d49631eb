"""Order splitters: lengths of hidden orders, whose piece comes next, and a run."""

import math
from itertools import groupby

import numpy as np
import pytest

import abm
from abm.agents.splitters import HiddenOrders, OrderSplitters
from abm.exchange.messages import Side


def test_lengths_have_the_tail_they_are_told_to() -> None:
    """P(length > n) = n^-tail for n >= 1."""
    luck = np.random.default_rng(1).random((200_000, 2))
    orders = HiddenOrders(1.5, luck).orders
    for n in (1, 2, 5, 20, 100):
        expected = n**-1.5
        error = math.sqrt(expected * (1 - expected) / len(luck))
        assert (orders["left"] > n).mean() == pytest.approx(expected, abs=4 * error + 1e-12)
    assert orders["left"].min() >= 1
    assert (orders["side"] == Side.BUY).mean() == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("seed", range(3))
def test_pieces_are_those_of_the_plain_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tail, begin, luck = 1.2 + 0.3 * seed, rng.random((5, 2)), rng.random((2000, 3))
    hidden = HiddenOrders(tail, begin)
    twin = [[math.ceil((1 - u) ** (-1 / tail)), int(v >= 0.5)] for u, v in begin]
    pieces = []
    for which, length, side in luck:
        order = twin[int(which * 5)]
        pieces.append((int(which * 5), order[1]))
        order[0] -= 1
        if order[0] == 0:
            order[:] = [math.ceil((1 - length) ** (-1 / tail)), int(side >= 0.5)]
    halves = [hidden.trade(half) for half in np.split(luck, 2)]
    assert [pair for who, side in halves for pair in zip(who.tolist(), side.tolist(), strict=True)] == pieces
    assert [list(order) for order in hidden.orders[["left", "side"]].tolist()] == twin


def test_nobody_comes_to_hold_more_than_so_many_pieces() -> None:
    rng = np.random.default_rng(4)
    hidden = HiddenOrders(1.2, rng.random((5, 2)), most=50)
    pieces = [hidden.trade(rng.random((200, 3))) for _ in range(300)]
    who, side = (np.concatenate(column) for column in zip(*pieces, strict=True))
    held = [np.cumsum(np.where(side[who == account] == Side.BUY, 1, -1)) for account in range(5)]
    # An order begun at the limit still has one piece.
    assert all(30 < np.abs(each).max() <= 51 for each in held)
    assert [each[-1] for each in held] == hidden.orders["net"].tolist()


def test_in_a_run_accounts_trade_their_orders_piece_by_piece() -> None:
    scenario = abm.Scenario.model_validate(
        {
            "name": "two-kinds",
            "clock": {"start": "2026-02-05T00:00Z", "end": "2026-02-05T01:00Z"},
            "instruments": {"btc-spot": {"tick": 0.01, "lot": 0.0001, "max_price": 250_000, "reference_price": 73_100}},
            "traders": {
                "zero_intelligence": {"limit_orders": [600], "tail": None, "step_ticks": 500, "market_orders": 1},
                "order_splitters": {"pieces": 60, "size": 0.01, "accounts": 5, "tail": 1.2},
            },
        }
    )
    market = abm.Market(scenario)
    splitters = next(p for p in market.populations if isinstance(p, OrderSplitters))
    start = splitters.holdings()
    market.run_for("30min")
    result = market.result()
    assert result.audit.passed
    flows = result.flows
    mine = flows[(flows["reason"] == "execution") & (flows["role"] == "taker")]
    assert mine["volume"].sum() == pytest.approx(0.01 * 60 * 30, rel=4 / (60 * 30) ** 0.5)
    trades = market.recorder.trades_of(int(splitters.rows[0]))
    assert not trades["maker"].any()
    signed = np.where(trades["side"] == "buy", 1, -1) * trades["quantity"]
    assert signed.sum() == pytest.approx(splitters.holdings()[0] - start[0])
    lengths = [len(list(run)) for _, run in groupby(trades["side"])]
    assert np.mean(lengths) > 3  # of coin tosses: 2
