"""Parent orders: each style keeps its schedule, makes up for what is behind, and no parent is overfilled or confused with another."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

import abm
from abm.agents.base import Numbers, Population, TraderConfig
from abm.agents.execution import CURVES, TWAP, VWAP, AlmgrenChriss, Iceberg, Participation, Style
from abm.agents.execution_agent import ExecutionAgent, ExecutionAgentConfig
from abm.agents.view import View
from abm.exchange import MESSAGE, Flag, Instrument, Kind, Latency, Phase, Reason, Side
from abm.exchange.messages import Records, join
from abm.scenario import Scenario

COIN = "btc-spot"
MID = 100.0


class Wall(Population):
    """Keeps `depth` coins bid and offered at each of five prices around 100, while it is `there`."""

    depth, there = 1000.0, True

    def endow(self) -> tuple[Numbers, Numbers]:
        return 1e9, 1e7

    def decide(self, view: View) -> Records | None:
        book, away = view[COIN], 0.01 * np.arange(1, 6)
        if not self.there:
            return self.cancel_all(book)
        terms = {"who": np.zeros(5, np.int64), "reason": Reason.MARKET_MAKING}
        return join(
            [
                self.cancel_all(book),
                self.limit_buy(book, MID - away, self.depth, **terms),
                self.limit_sell(book, MID + away, self.depth, **terms),
            ]
        )


class Crowd(Population):
    """Trades at once in every step: as many coins as it is told, bought and sold in turn, or drawn at random."""

    volume, chance = 0.0, False

    def setup(self) -> None:
        self._rng = self.random("orders")
        self.every_step = True

    def endow(self) -> tuple[Numbers, Numbers]:
        return 1e9, 1e7

    def decide(self, view: View) -> Records | None:
        if self.volume == 0:
            return None
        side = Side.BUY if view.step % 2 else Side.SELL
        quantity = self.volume
        if self.chance:
            side = int(self._rng.integers(2))
            quantity *= float(self._rng.random())
        return self.market(view[COIN], side, quantity, reason=Reason.NOISE)


class Worker(Population):
    """Does nothing by itself; the tests give it parent orders."""

    def setup(self) -> None:
        self.every_step = False

    def endow(self) -> tuple[Numbers, Numbers]:
        return 1e9, 1e6

    def give(self, side: Side, quantity: float, style: Style, account: int = 0, **terms: int) -> int:
        book = self.model.view()[COIN]
        return int(self.work(book, side, quantity, style, who=np.array([account]), **terms)[0])

    def filled(self, number: int) -> float:
        return float(self.desk.table()["filled"][number])


class Room(abm.Market):
    """A market of a wall, a crowd and a worker, at one-second steps."""

    def __init__(self, latency: Latency | None = None, accounts: int = 1, crowd: float = 0.0, **terms: object) -> None:
        coin = Instrument(name=COIN, tick=0.01, lot=0.001, max_price=1000, max_order=1e6, reference_price=MID, **terms)
        clock = {"start": "2026-02-05T12:00Z", "end": "2026-02-06T12:00Z", "step": "1s"}
        super().__init__(Scenario(name="room", clock=clock, instruments={COIN: coin}, spare_accounts=300))
        config = TraderConfig(instrument=COIN, latency=Latency())
        self.wall = Wall(self, "wall", config)
        self.crowd = Crowd(self, "crowd", config.model_copy(update={"latency": Latency(base=500.0)}))
        self.crowd.volume = crowd
        slow = Latency(base=10.0) if latency is None else latency
        self.worker = Worker(self, "worker", TraderConfig(instrument=COIN, accounts=accounts, latency=slow))
        self.run_for(1)

    def traded(self, reason: Reason) -> pd.DataFrame:
        """Trades in which somebody with this reason took part."""
        table = self.recorder.trades_table()
        name = reason.name.lower()
        return table[(table["taker_reason"] == name) | (table["maker_reason"] == name)]


def parsed(**style: object) -> Style:
    return TypeAdapter(Style).validate_python(style)


# ------------------------------------------------------------------------------------------------------------ schedules


def test_twap_trades_an_equal_part_at_the_beginning_of_each_slice() -> None:
    room = Room()
    parent = room.worker.give(Side.SELL, 60.0, TWAP(duration="60s", slices=6))
    filled = []
    for _ in range(6):
        room.run_for(1)
        filled.append(room.worker.filled(parent))
        room.run_for(9)
        assert room.worker.filled(parent) == filled[-1]
    assert filled == pytest.approx([10, 20, 30, 40, 50, 60])
    room.run_for(1)
    row = room.worker.desk.table().iloc[parent]
    assert row["done"]
    assert row["average_price"] == pytest.approx(MID - 0.01)
    assert row["shortfall"] == pytest.approx(0.01 * 60)
    assert row["shortfall_bps"] == pytest.approx(1.0)


def test_what_is_behind_is_made_up_for() -> None:
    room = Room()
    parent = room.worker.give(Side.BUY, 60.0, TWAP(duration="60s", slices=6))
    room.wall.there = False
    room.run_for(25)
    assert room.worker.filled(parent) == 0
    room.wall.there = True
    room.run_for(6)
    assert room.worker.filled(parent) == pytest.approx(40)
    room.run_for(30)
    assert room.worker.filled(parent) == pytest.approx(60)


def test_quantities_are_whole_lots_and_add_up() -> None:
    room = Room()
    parent = room.worker.give(Side.SELL, 0.0105, TWAP(duration="30s", slices=7))
    room.run_for(31)
    assert room.worker.filled(parent) == pytest.approx(0.010)
    empty = room.worker.work(room.view()[COIN], Side.SELL, 0.0009, TWAP())
    assert len(empty) == 0


def test_vwap_follows_the_volume_of_the_day() -> None:
    style = VWAP(duration="1d", slices=24, curve="crypto")
    hours = 3600.0 * np.arange(25)
    shares = np.diff(style.done_by(hours, np.zeros(25)))
    np.testing.assert_allclose(shares, np.array(CURVES["crypto"][2]) / sum(CURVES["crypto"][2]), atol=1e-12)
    began = 18 * 3600.0  # over midnight: six hours of this day, then the next
    over = np.diff(style.done_by(hours, np.full(25, began)))
    np.testing.assert_allclose(over, np.roll(shares, -18), atol=1e-12)
    room = Room()  # begins at 12:00 UTC
    parent = room.worker.give(Side.SELL, 100.0, VWAP(duration="4h", slices=2, curve=[0, 1, 0, 3]))
    room.run_for(1)  # 12 to 14 UTC lie in the third part, which is empty, as is all until 16: evenly then
    assert room.worker.filled(parent) == pytest.approx(50)


def test_vwap_of_a_session_trades_most_at_its_ends() -> None:
    style = VWAP(duration="6.5h", slices=13, curve="session")
    parts = np.diff(style.done_by(1800.0 * np.arange(14), np.full(14, 14.5 * 3600.0)))
    assert parts.sum() == pytest.approx(1)
    assert parts[0] > 2 * parts[6] < parts[12]
    assert (np.diff(parts[:7]) < 0).all()
    closed = VWAP(duration="1h", curve="session").done_by(np.array([900.0]), np.array([0.0]))
    assert closed == pytest.approx(0.25)  # no volume at night: evenly


def test_almgren_chriss_solves_the_first_order_conditions() -> None:
    """x_(j-1) - 2 x_j + x_(j+1) = tau^2 lambda sigma^2 / (eta - gamma tau / 2) x_j, as a linear system instead of by sinh."""
    n, style = (
        8,
        AlmgrenChriss(duration="2d", slices=8, risk_aversion=1e-5, volatility=0.9, temporary=2e-6, permanent=3e-7),
    )
    tau = 0.25
    ratio = tau**2 * 1e-5 * 0.9**2 / (2e-6 - 0.5 * 3e-7 * tau)
    matrix = np.diag(np.full(n - 1, 2 + ratio)) - np.eye(n - 1, k=1) - np.eye(n - 1, k=-1)
    held = np.linalg.solve(matrix, np.eye(n - 1)[0])
    done = style.done_by(86_400.0 * tau * np.arange(1, n), np.zeros(n - 1))
    np.testing.assert_allclose(1 - done, held, rtol=1e-10)


@pytest.mark.parametrize(("aversion", "first"), [(1e-30, 0.1), (1e12, 1.0)])
def test_almgren_chriss_without_and_with_nothing_but_risk(aversion: float, first: float) -> None:
    style = AlmgrenChriss(duration="10d", slices=10, risk_aversion=aversion, volatility=1.0, temporary=1e-6)
    done = style.done_by(86_400.0 * np.arange(1, 11), np.zeros(10))
    assert done[0] == pytest.approx(first, abs=1e-6)
    assert done[-1] == pytest.approx(1.0)
    assert (np.diff(done) >= 0).all()


def test_participation_is_the_fraction_of_the_volume_that_it_is_told() -> None:
    room = Room(crowd=4.0)
    room.worker.give(Side.SELL, 1e5, Participation(rate=0.2, interval="10s", duration="10min", finish="drop"))
    room.run_for("10min")
    everything = room.recorder.trades_table()
    everything = everything[everything["time"] > everything["time"].iloc[0]]
    mine = room.traded(Reason.EXECUTION)["quantity"].sum()
    assert mine / everything["quantity"].sum() == pytest.approx(0.2, rel=0.03)
    assert mine > 400


# -------------------------------------------------------------------------------------------------------------- children


def test_an_iceberg_shows_a_part_of_one_order() -> None:
    room = Room(crowd=3.0)
    parent = room.worker.give(Side.SELL, 50.0, Iceberg(display=0.1, distance_bps=0.5, duration="1h"))
    room.run_for(1)
    orders = room.exchange.orders_of(int(room.worker.rows[0]))
    assert orders["price"].tolist() == [10_001]
    assert (orders["quantity"] + orders["reserve"])[0] == 50_000
    assert orders["quantity"][0] == 5_000
    room.wall.there = False
    room.run_for(60)
    assert room.worker.filled(parent) == pytest.approx(50)
    assert set(room.traded(Reason.EXECUTION)["maker_reason"]) == {"execution"}


def test_passive_children_rest_at_the_best_price_and_are_replaced() -> None:
    room = Room()
    parent = room.worker.give(Side.BUY, 40.0, TWAP(duration="40s", slices=4, passive=True))
    row = int(room.worker.rows[0])
    seen = []
    for _ in range(4):
        room.run_for(1)
        orders = room.exchange.orders_of(row)
        assert orders["price"].tolist() == [9_999]
        seen.append((int(orders["order"][0]), int(orders["quantity"][0])))
        room.run_for(9)
    # 30 are behind in the third slice, but 20 of the 40 may still trade until they are withdrawn
    assert [lots for _, lots in seen] == [10_000, 20_000, 20_000, 20_000]
    assert len({order for order, _ in seen}) == 4
    assert room.worker.filled(parent) == 0
    room.run_for(1)  # the last child is withdrawn
    assert len(room.exchange.orders_of(row)) == 0
    room.run_for(1)  # and the rest is bought
    assert room.worker.filled(parent) == pytest.approx(40)
    assert set(room.traded(Reason.EXECUTION)["taker_reason"]) == {"execution"}


def test_a_passive_child_that_was_filled_is_followed_by_a_whole_one() -> None:
    room = Room(crowd=3.0)
    room.wall.depth = 2.0
    room.run_for(1)  # slices then follow purchases of the crowd, which leave the bids as they are
    parent = room.worker.give(Side.BUY, 16.0, TWAP(duration="40s", slices=4, passive=True))
    for n in range(1, 5):
        room.run_for(10)
        assert room.worker.filled(parent) == pytest.approx(4.0 * n)
    room.run_for(1)
    assert room.worker.desk.table()["done"][parent]
    assert room.result().summary["rejects"] == {}  # nothing was cancelled that was gone


def test_at_the_end_the_rest_is_dropped_where_that_is_asked() -> None:
    room = Room()
    parent = room.worker.give(Side.BUY, 40.0, TWAP(duration="40s", slices=4, passive=True, finish="drop"))
    room.run_for(44)
    assert room.worker.filled(parent) == 0
    assert room.worker.desk.table()["done"][parent]
    assert len(room.exchange.orders_of(int(room.worker.rows[0]))) == 0


def test_slippage_bounds_what_a_child_pays() -> None:
    room = Room()
    room.wall.depth = 1.0
    parent = room.worker.give(Side.BUY, 100.0, TWAP(duration="20s", slices=1, slippage=0.00025, finish="drop"))
    room.run_for(5)
    assert room.worker.filled(parent) == pytest.approx(2.0)  # at 100.01 and 100.02
    wide = room.worker.give(Side.BUY, 100.0, TWAP(duration="20s", slices=1, slippage=None, finish="drop"))
    room.run_for(5)
    assert room.worker.filled(wide) == pytest.approx(5.0)


def test_a_parent_that_is_dropped_stops_at_once() -> None:
    room = Room()
    parents = [room.worker.give(Side.SELL, 60.0, TWAP(duration="60s", slices=6, passive=p)) for p in (False, True)]
    room.run_for(15)
    room.worker.desk.drop(parents)
    room.run_for(60)
    assert room.worker.filled(parents[0]) == pytest.approx(20)
    assert room.worker.filled(parents[1]) == 0
    assert room.worker.desk.table()["done"].all()
    assert len(room.exchange.orders_of(int(room.worker.rows[0]))) == 0


def test_an_order_sent_during_a_call_waits_for_the_auction() -> None:
    room = Room()

    def phase(kind: Kind, phase: Phase) -> None:
        message = np.zeros(1, MESSAGE)
        message["kind"], message["side"], message["time"], message["owner"] = kind, phase, room.time_ns, -1
        report = room.exchange.match(message)
        for desk in room.observers:
            desk.observe(report)

    phase(Kind.PHASE, Phase.CALL)
    parent = room.worker.give(Side.SELL, 10.0, TWAP(duration="3s", slices=1))
    room.run_for(20)
    assert len(room.exchange.orders_of(int(room.worker.rows[0]))) == 1
    assert not room.worker.desk.table()["done"][parent]
    phase(Kind.UNCROSS, Phase.CONTINUOUS)
    room.run_for(2)
    assert room.worker.filled(parent) == pytest.approx(10)
    assert room.worker.desk.table()["done"][parent]


# ------------------------------------------------------------------------------------------------------------ accounting

STYLES = st.one_of(
    st.builds(TWAP, duration=st.just(30.0), slices=st.integers(1, 40), passive=st.booleans()),
    st.builds(VWAP, duration=st.just(20.0), slices=st.integers(1, 10), passive=st.booleans()),
    st.builds(Participation, duration=st.just(30.0), rate=st.just(0.3), interval=st.just(2.0), passive=st.booleans()),
    st.builds(Iceberg, duration=st.just(25.0), display=st.just(0.2), finish=st.sampled_from(["market", "drop"])),
)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(STYLES, st.sampled_from([Side.BUY, Side.SELL]), st.integers(0, 1)), min_size=2, max_size=6),
    st.sampled_from([0.0, 300.0, 990.0]),
)
def test_parents_of_one_account_are_not_confused_and_never_overfilled(
    parents: list[tuple[Style, Side, int]], delay: float
) -> None:
    """Fills are counted again by the reason that each parent gives its children, and by the accounts' positions."""
    room = Room(latency=Latency(base=delay), accounts=2, crowd=30.0)
    room.crowd.chance = True
    room.wall.depth = 3.0
    before = room.worker.holdings()
    for number, (style, side, account) in enumerate(parents):
        assert room.worker.give(side, 25.0, style, account, reason=Reason.REDEMPTION + number) == number
        room.run_for(2)
    for _ in range(50):
        room.run_for(1)
        assert (room.worker.desk.parents["filled"] <= 25_000).all()
    table = room.worker.desk.table()
    trades = room.recorder.trades_table()
    for number in range(len(parents)):
        reason = Reason(Reason.REDEMPTION + number).name.lower()
        counted = sum(trades.loc[trades[f"{role}_reason"] == reason, "quantity"].sum() for role in ("taker", "maker"))
        assert table["filled"][number] == pytest.approx(counted)
    signed = table["filled"] * np.where(table["side"] == "buy", 1, -1)
    bought = signed.groupby(table["account"]).sum().reindex(range(2), fill_value=0.0)
    np.testing.assert_allclose(room.worker.holdings() - before, bought, atol=1e-9)
    assert table["done"].all()
    assert room.exchange.accounts.position_reserved.min() == 0
    assert sum(len(room.exchange.orders_of(int(row))) for row in room.worker.rows) == 0


def test_orders_of_many_parents_are_forgotten_only_when_they_are_over() -> None:
    """Old children still trade here while their cancellation is on the way."""
    room = Room(accounts=200, latency=Latency(base=990.0), crowd=50.0)
    room.wall.depth = 1.0
    style = TWAP(duration="20s", slices=20, passive=True)
    for _ in range(3):
        room.worker.work(room.view()[COIN], Side.SELL, 2.0, style)
        room.run_for(25)
    desk = room.worker.desk
    assert desk.table()["done"].all()
    filled = desk.table().groupby("account")["filled"].sum()
    assert filled.max() == pytest.approx(6.0)
    assert room.worker.holdings() == pytest.approx(1e6 - filled.to_numpy())
    assert len(desk._ids) < 1000
    assert desk.next_ns > room.time_ns + 10**18


def test_a_population_decides_only_when_it_is_awake() -> None:
    class Once(Worker):
        calls = 0

        def decide(self, view: View) -> Records | None:
            self.calls += 1
            self.work(view[COIN], Side.BUY, 6.0, TWAP(duration="6s", slices=6))
            return self.limit_buy(view[COIN], 50.0, 1.0, flags=Flag.POST_ONLY)

    room = Room()
    once = Once(room, "once", TraderConfig(instrument=COIN, latency=Latency()))
    once.wake()
    room.run_for(10)
    assert once.calls == 1
    assert once.filled(0) == pytest.approx(6)
    assert len(room.exchange.orders_of(int(once.rows[0]))) == 1


# ------------------------------------------------------------------------------------------------------------- the agent


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_an_execution_agent_begins_when_it_is_told_and_knows_what_it_paid(side: str) -> None:
    room = Room()
    style = {"style": "twap", "duration": "20s", "slices": 4}
    config = ExecutionAgentConfig(instrument=COIN, side=side, quantity=20, start=30, style=style, latency=Latency())
    agent = ExecutionAgent(room, "agent", config)
    room.run_for(29)
    assert agent.filled == 0
    assert np.isnan(agent.average_price) and np.isnan(agent.shortfall)
    room.run_for(2)
    assert agent.filled == pytest.approx(5)
    room.run_for(25)
    assert agent.filled == pytest.approx(20)
    assert agent.done
    assert agent.arrival_price == pytest.approx(MID)
    assert agent.average_price == pytest.approx(MID + (0.01 if side == "buy" else -0.01))
    assert agent.shortfall == pytest.approx(0.2)
    assert agent.shortfall_bps == pytest.approx(1.0)
    change = -20 if side == "sell" else 20
    assert agent.holdings()[0] - (20 if side == "sell" else 0) == pytest.approx(change)
    assert room.result().audit.passed


@pytest.mark.parametrize(
    ("style", "line"),
    [
        ({"style": "twap", "slices": 0}, "greater than or equal to 1"),
        ({"style": "tvap"}, "does not match any of the expected tags"),
        ({"style": "vwap", "curve": [0, 0]}, "curve needs a volume above 0 in some part of the day"),
        ({"style": "iceberg", "passive": True}, "Extra inputs are not permitted"),
        (
            {"style": "almgren_chriss", "volatility": 1, "temporary": 1e-9, "permanent": 1},
            "temporary must exceed permanent x slice",
        ),
    ],
)
def test_a_style_that_cannot_be_is_refused(style: dict[str, object], line: str) -> None:
    with pytest.raises(ValidationError, match=line):
        parsed(**style)


def test_an_agent_cannot_sell_what_it_has_not() -> None:
    with pytest.raises(ValidationError, match="raise coins"):
        ExecutionAgentConfig(quantity=10, coins=5)
