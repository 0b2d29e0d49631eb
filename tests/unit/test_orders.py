"""Orders as arrays: written, joined, cut to means, numbered. The cut is held against a plain twin."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abm.agents.orders import TERMS, each, fit, write
from abm.exchange.messages import MESSAGE, Kind, Records, Side, TimeInForce, join
from abm.exchange.reading import VIEW

ACCOUNTS, FIRST, PPM = 3, 2, 1_000_000


@dataclass
class Means:
    """What three accounts have, in an exchange in which they are the accounts 2, 3 and 4."""

    cash: list[int]
    cash_reserved: list[int]
    lots: list[int]
    lots_reserved: list[int]
    taker_ppm: int = 1000
    max_lots: int = 10**6
    unit: int = 3
    ask: int = 100
    on_margin: bool = False
    scratch: np.ndarray = field(default_factory=lambda: np.zeros((3, 2), np.int64))

    def fit(self, messages: Records) -> Records:
        def column(values: list[int]) -> np.ndarray:
            return np.array([0] * FIRST + values, np.int64)

        tops = np.zeros(1, VIEW)
        tops["best_ask"] = self.ask
        kept = fit(
            messages,
            FIRST,
            50,
            1000,
            tops,
            np.array([(self.unit, self.max_lots, self.taker_ppm, self.on_margin)], TERMS),
            column(self.cash),
            column(self.cash_reserved),
            column(self.lots)[:, None].copy(),
            column(self.lots_reserved)[:, None].copy(),
            self.scratch,
        )
        assert not self.scratch.any()
        return messages[:kept]


def message(
    kind: Kind, account: int, side: Side = Side.BUY, price: int = 0, quantity: int = 0, order: int = 0
) -> Records:
    row = np.zeros(1, MESSAGE)
    row["kind"], row["owner"], row["side"], row["price"], row["quantity"], row["order"] = (
        kind,
        FIRST + account,
        side,
        price,
        quantity,
        order,
    )
    return row


def cost(price: int, lots: int, unit: int, ppm: int) -> int:
    return price * lots * unit + price * lots * unit * ppm // PPM


def twin(means: Means, messages: Records) -> list[tuple[int, int, int]]:
    """What is kept, as (owner, kind, lots), by taking lot after lot while it can be paid for."""
    spent, sold, kept = [0] * ACCOUNTS, [0] * ACCOUNTS, []
    reserved, held = list(means.cash_reserved), list(means.lots_reserved)
    for row in messages:
        own, lots = int(row["owner"]) - FIRST, int(min(row["quantity"], means.max_lots))
        if row["kind"] == Kind.MASS_CANCEL:
            reserved[own] = held[own] = spent[own] = sold[own] = 0
            kept.append((int(row["owner"]), int(row["kind"]), 0))
            continue
        if row["side"] == Side.SELL:
            lots = min(lots, means.lots[own] - held[own] - sold[own])
            sold[own] += max(lots, 0)
        else:
            price = int(row["price"]) or means.ask + means.ask // 100
            free = means.cash[own] - reserved[own] - spent[own]
            # The pass keeps one money unit back for the rounding of fees.
            while lots > 0 and cost(price, lots, means.unit, means.taker_ppm) + 1 > free:
                lots -= 1
            if lots > 0:
                spent[own] += cost(price, lots, means.unit, means.taker_ppm) + 1
        if lots > 0:
            kept.append((int(row["owner"]), int(row["kind"]), lots))
    return kept


small = st.integers(0, 20_000)
orders = st.one_of(
    st.builds(
        message,
        st.just(Kind.LIMIT),
        st.integers(0, 2),
        st.sampled_from([Side.BUY, Side.SELL]),
        st.integers(1, 200),
        st.integers(0, 60),
    ),
    st.builds(
        message,
        st.just(Kind.MARKET),
        st.integers(0, 2),
        st.sampled_from([Side.BUY, Side.SELL]),
        st.just(0),
        st.integers(0, 60),
    ),
    st.builds(message, st.just(Kind.MASS_CANCEL), st.integers(0, 2)),
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(small, min_size=3, max_size=3),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.lists(st.integers(0, 50), min_size=3, max_size=3),
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.lists(orders, min_size=1, max_size=12),
)
def test_orders_are_cut_as_by_the_plain_twin(
    cash: list[int], cash_part: list[float], lots: list[int], lots_part: list[float], parts: list[Records]
) -> None:
    means = Means(
        cash=cash,
        cash_reserved=[int(c * p) for c, p in zip(cash, cash_part, strict=True)],
        lots=lots,
        lots_reserved=[int(n * p) for n, p in zip(lots, lots_part, strict=True)],
    )
    messages = np.concatenate(parts)
    expected = twin(means, messages)
    kept = means.fit(messages)
    assert [(int(m["owner"]), int(m["kind"]), int(m["quantity"])) for m in kept] == expected


def test_new_orders_are_numbered_and_those_with_an_id_keep_it() -> None:
    means = Means([10**9] * 3, [0] * 3, [0] * 3, [0] * 3)
    kept = means.fit(
        np.concatenate(
            [
                message(Kind.LIMIT, 0, price=10, quantity=1),
                message(Kind.LIMIT, 0, price=10, quantity=1, order=7),
                message(Kind.CANCEL, 0, order=3),
                message(Kind.LIMIT, 1, Side.SELL, price=10, quantity=1),  # has no lots: dropped
                message(Kind.LIMIT, 1, price=10, quantity=1),
            ]
        )
    )
    assert kept["order"].tolist() == [50, 7, 3, 51]


def test_orders_with_margin_are_only_cut_to_the_largest_size() -> None:
    means = Means([0] * 3, [0] * 3, [0] * 3, [0] * 3, max_lots=40, on_margin=True)
    kept = means.fit(
        np.concatenate([message(Kind.MARKET, 0, quantity=99), message(Kind.LIMIT, 1, Side.SELL, price=10, quantity=7)])
    )
    assert kept["quantity"].tolist() == [40, 7]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([Kind.LIMIT, Kind.MARKET, Kind.CANCEL, Kind.MASS_CANCEL, Kind.STOP]),
            st.integers(0, 2),
            st.integers(-1, 2),
            st.integers(0, 1),
            st.integers(0, 60),
        ),
        max_size=12,
    )
)
def test_of_several_instruments_nothing_is_left_that_was_counted(
    drawn: list[tuple[Kind, int, int, int, int]],
) -> None:
    messages = join([message(kind, account, Side(side), 100, lots) for kind, account, _, side, lots in drawn])
    everywhere = messages["kind"] == Kind.MASS_CANCEL  # only that may be of no instrument
    messages["instrument"] = np.where(everywhere, [i for *_, i, _, _ in drawn], [max(i, 0) for *_, i, _, _ in drawn])
    tops, terms = np.zeros(3, VIEW), np.array([(3, 50, 1000, k == 2) for k in range(3)], TERMS)
    tops["best_ask"] = 100
    means = [np.full(FIRST + ACCOUNTS, 20_000, np.int64), np.full(FIRST + ACCOUNTS, 5_000, np.int64)]
    lots = [np.full((FIRST + ACCOUNTS, 3), n, np.int64) for n in (80, 30)]
    scratch = np.zeros((ACCOUNTS, 4), np.int64, order="F")
    kept = fit(messages, FIRST, 50, 1000, tops, terms, *means, *lots, scratch)
    assert 0 <= kept <= len(drawn)
    assert not scratch.any()


def test_messages_of_another_population_are_an_error() -> None:
    with pytest.raises(ValueError, match="its own accounts"):
        Means([1] * 3, [0] * 3, [0] * 3, [0] * 3).fit(message(Kind.LIMIT, -1, price=1, quantity=1))


def test_prices_round_away_from_the_market_and_orders_of_no_lot_are_left_out() -> None:
    n = 6
    out = np.zeros(n, MESSAGE)
    side = np.array([0, 1, 0, 1, 0, 0])
    price = np.array([100.019, 100.011, 100.02, 100.02, 1e9, -5.0])
    quantity = np.array([0.0003, 0.00029999999999, 0.00009, 0.0002, 1.0, np.nan])
    every = np.zeros(n, np.int64)
    written = write(
        out,
        int(Kind.LIMIT),
        0,
        FIRST,
        0.01,
        0.0001,
        25_000_000,
        0,
        0.0,
        0,
        np.arange(n),
        side,
        price,
        quantity,
        every,
        every,
    )
    assert out["price"][:written].tolist() == [10001, 10002, 10002, 24_999_999]
    assert out["quantity"][:written].tolist() == [3, 3, 2, 10_000]
    assert out["owner"][:written].tolist() == [2, 3, 5, 6]


def test_only_orders_that_would_stay_get_an_end() -> None:
    out = np.zeros(2, MESSAGE)
    tif = np.array([TimeInForce.GTC, TimeInForce.IOC])
    ones = np.ones(2)
    write(
        out,
        0,
        0,
        0,
        0.01,
        0.1,
        10**6,
        77,
        0.25,
        0,
        np.arange(2),
        np.zeros(2, np.int64),
        ones,
        ones * 2,
        np.zeros(2, np.int64),
        tif,
    )
    assert out["tif"].tolist() == [TimeInForce.GTD, TimeInForce.IOC]
    assert out["expiry"].tolist() == [77, 0]
    assert out["display"].tolist() == [5, 5]


def test_join_puts_records_one_after_the_other() -> None:
    parts = [message(Kind.LIMIT, a, price=5, quantity=a) for a in range(3)]
    assert np.array_equal(join(parts), np.concatenate(parts))
    assert len(join([])) == 0


def test_each_makes_one_of_a_scalar_and_passes_an_array() -> None:
    array = np.arange(3)
    assert each(array, 3, np.int64) is array
    assert each(2, 3, np.float64).tolist() == [2.0]
    assert each(2.5, 3, np.float64).tolist() == [2.5]
    assert each([1, 2, 3], 3, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="broadcast"):
        each([1, 2], 3, np.int64)
