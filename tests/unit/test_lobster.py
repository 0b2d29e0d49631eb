"""LOBSTER files as a market: alone it is that of the files at every step, others move it, and what does not fit is refused in one line."""

import gzip
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

import abm
from abm.agents.base import TraderConfig
from abm.agents.view import View
from abm.exchange.gateway import Latency
from abm.lobster.files import read_pair
from experiments.replay.export import write_lobster
from tests.unit.lobster_pair import BUY, DELETE, EXECUTION, HALT, HIDDEN, NEW, PARTIAL, SELL, Pair
from tests.unit.walls import SPOT

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "lobster"
COIN, SHARE = "btc-spot", "share"
TERMS = {"tick": 0.01, "lot": 1, "max_price": 100, "reference_price": 10.0}
APPLE = {"tick": 0.01, "lot": 1, "max_price": 1000, "reference_price": 585.6}
NEW_YORK = "2012-06-21T00:00-04:00"

type Files = tuple[Path, Path]


def scenario(
    files: Files, instruments: dict[str, Any], start: str, end: str, step: str = "1s", **more: Any
) -> abm.Scenario:
    traders = more.pop("traders", {})
    name = next(iter(instruments))
    venue = {"path": str(files[0]), "book": str(files[1]), "instrument": name, **more}
    return abm.Scenario.model_validate(
        {
            "name": "venue",
            "clock": {"start": start, "end": end, "step": step},
            "instruments": instruments,
            "traders": {"lobster": venue, **traders},
        }
    )


def differing_steps(made: abm.Market, files: Files, midnight: str) -> list[int]:
    """Steps of a whole run at whose end the book is not that of the file."""
    clock, instrument = made.scenario.clock, made.exchange.instruments[0]
    messages, book = read_pair(*files, Decimal(str(instrument.tick)))
    start = (pd.Timestamp(clock.start) - pd.Timestamp(midnight)).value
    differ = []
    for step in range(clock.steps):
        made.run_for(1)
        row = int(np.searchsorted(messages.time_ns, start + (step + 1) * clock.step_ns)) - 1
        depth = made.exchange.depth(0, book.levels)
        for side, price, size in ((0, depth.bid_price, depth.bid_quantity), (1, depth.ask_price, depth.ask_quantity)):
            shown = book.price[side, row] > 0
            same = np.array_equal(price, book.price[side, row][shown])
            if row >= 0 and not (same and np.array_equal(size, book.size[side, row][shown])):
                differ.append(step)
    return differ


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Two minutes of a run, as files of ten levels."""
    clock = {"end": "2026-02-05T00:02Z"}
    result = abm.run(abm.load("first-hour", clock=clock, recording={"interval": "1min", "orders": True}))
    return write_lobster(result, tmp_path_factory.mktemp("lobster"), COIN, 10)


def played(files: Files, start: str = "00:00", step: str = "1s", **more: Any) -> abm.Market:
    return abm.Market(scenario(files, {COIN: SPOT}, f"2026-02-05T{start}Z", "2026-02-05T00:02Z", step, **more))


@pytest.mark.parametrize(("start", "step"), [("00:00", "1s"), ("00:00", "10s"), ("00:01", "1s"), ("00:01:30", "100ms")])
def test_alone_every_step_ends_with_the_book_of_the_file(recorded: Files, start: str, step: str) -> None:
    made = played(recorded, start, step)
    assert differing_steps(made, recorded, "2026-02-05T00:00Z") == []
    result = made.result()
    assert len(result.trades) > 5 and set(result.trades["taker_reason"]) == {"replay"}
    assert result.audit.passed and result.summary["rejects"] == {}


def test_who_buys_moves_the_price_and_the_file_goes_on(recorded: Files) -> None:
    def with_buyer(quantity: float) -> abm.Market:
        style = {"style": "twap", "duration": "40s"}
        order = {"side": "buy", "quantity": quantity, "start": "20s", "style": style}
        made = played(recorded, traders={"execution_agent": order})
        made.run_for("2min")
        return made

    alone, small, made, again = played(recorded), with_buyer(10), with_buyer(40), with_buyer(40)
    alone.run_for("2min")
    less, more = (market.recorder.mids[0] / alone.recorder.mids[0] - 1.0 for market in (small, made))
    assert (more[:20] == 0.0).all()
    assert 0.0 < less[21:61].mean() < more[21:61].mean()
    assert more[61:].mean() < more[21:61].mean()  # the file's own orders come again, at its prices
    result = made.result()
    assert result.audit.passed
    assert set(result.summary["rejects"]) <= {"order_done", "bad_quantity"}
    assert result.summary["rejects"]["order_done"] > 0
    bought = result.trades[result.trades["taker_reason"] == "execution"]
    assert bought["quantity"].sum() == pytest.approx(40)
    later = result.trades[result.trades["time"] > bought["time"].max()]
    assert (later["taker_reason"] == "replay").sum() > 5
    assert result.summary["event_log_hash"] == again.result().summary["event_log_hash"]
    assert result.summary["event_log_hash"] != alone.result().summary["event_log_hash"]


class Once(abm.Trader):
    """Sends one order at four seconds: side, size, price."""

    order: ClassVar[tuple[str, float, float]]

    def act(self, view: View) -> None:
        if view.step == 4:
            side, size, price = self.order
            (self.buy if side == "buy" else self.sell)(SHARE, size, price)


def offers(folder: Path) -> Pair:
    """A day in which two offers are executed, lessened and withdrawn, a row a second."""
    pair, bid = Pair(folder, 2, every=1.0), [(999, 100)]
    pair.add(NEW, 1, 100, 999, BUY, bid, [])
    pair.add(NEW, 2, 50, 1001, SELL, bid, [(1001, 50)])
    pair.add(NEW, 3, 80, 1002, SELL, bid, [(1001, 50), (1002, 80)])
    pair.add(NEW, 4, 30, 1002, SELL, bid, [(1001, 50), (1002, 110)])
    pair.add(HIDDEN, 0, 5, 1000, SELL, bid, [(1001, 50), (1002, 110)])
    pair.add(EXECUTION, 2, 20, 1001, SELL, bid, [(1001, 30), (1002, 110)])
    pair.add(PARTIAL, 3, 60, 1002, SELL, bid, [(1001, 30), (1002, 50)])
    pair.add(DELETE, 2, 30, 1001, SELL, bid, [(1002, 50)])
    pair.add(EXECUTION, 3, 20, 1002, SELL, bid, [(1002, 30)])
    pair.add(DELETE, 4, 30, 1002, SELL, bid, [])
    return pair.write()


def day(pair: Pair, order: tuple[str, float, float]) -> abm.Market:
    Once.order = order
    files = (pair.messages, pair.book)
    made = abm.Market(scenario(files, {SHARE: TERMS}, "2026-02-05T09:30Z", "2026-02-05T09:30:10Z"))
    Once(made, config=TraderConfig(instrument=SHARE, latency=Latency()), cash=1e6, coins=1000)
    made.run_for(10)
    assert made.result().audit.passed
    return made


def told(made: abm.Market) -> list[tuple[str, float, float]]:
    trades = made.result().trades
    return [
        (str(row.taker_reason), round(row.price * 100), row.quantity)
        for row in trades[["taker_reason", "price", "quantity"]].itertuples()
    ]


def test_messages_of_the_file_meet_the_book_as_it_is_now(tmp_path: Path) -> None:
    made = day(offers(tmp_path), ("buy", 100, 10.02))
    assert told(made) == [
        ("unspecified", 1001, 50),
        ("unspecified", 1002, 50),
        ("replay", 1002, 20),  # the first execution of the file finds nobody at 10.01
    ]
    depth = made.exchange.depth(0, 2)
    assert (depth.ask_price.tolist(), depth.ask_quantity.tolist()) == ([1002], [10])
    # 60 less of an order of 30, and the withdrawal of one that is gone
    assert made.result().summary["rejects"] == {"bad_quantity": 1, "order_done": 1}


def test_who_undercuts_is_executed_and_the_order_of_the_file_rests_on(tmp_path: Path) -> None:
    made = day(offers(tmp_path), ("sell", 30, 10.00))
    assert told(made) == [("replay", 1000, 20), ("replay", 1000, 10), ("replay", 1002, 10)]
    depth = made.exchange.depth(0, 2)
    assert (depth.ask_price.tolist(), depth.ask_quantity.tolist()) == ([1002], [10])
    assert made.result().summary["rejects"] == {}


def test_an_adopted_order_that_the_file_ends_is_gone_whatever_others_took(tmp_path: Path) -> None:
    pair, bid = Pair(tmp_path, 1, every=1.0), [(999, 100)]
    for _ in range(6):
        pair.add(HIDDEN, 0, 5, 1000, SELL, bid, [(1001, 200)])
    pair.add(PARTIAL, 7, 50, 1001, SELL, bid, [(1001, 150)])
    pair.add(DELETE, 8, 150, 1001, SELL, bid, [])
    pair.add(HIDDEN, 0, 5, 1000, SELL, bid, [])
    pair.add(HIDDEN, 0, 5, 1000, SELL, bid, [])
    made = day(pair.write(), ("buy", 120, 10.01))
    assert told(made) == [("unspecified", 1001, 120)]
    assert len(made.exchange.depth(0, 1).ask_price) == 0
    assert made.result().summary["rejects"] == {}


def halted(folder: Path) -> Pair:
    pair, bid, ask = Pair(folder, 1, every=1.0), [(999, 100)], [(1001, 50)]
    pair.add(NEW, 1, 100, 999, BUY, bid, [])
    pair.add(NEW, 2, 50, 1001, SELL, bid, ask)
    pair.add(HALT, 0, 0, -1, -1, bid, ask)
    for _ in range(3):
        pair.add(HIDDEN, 0, 5, 1000, SELL, bid, ask)
    pair.add(HALT, 0, 0, 1, -1, bid, ask)
    pair.add(EXECUTION, 2, 50, 1001, SELL, bid, [])
    pair.add(HIDDEN, 0, 5, 1000, SELL, bid, [])
    pair.add(HIDDEN, 0, 5, 1000, SELL, bid, [])
    return pair.write()


def test_a_halt_of_the_file_is_one_for_all(tmp_path: Path) -> None:
    made = day(halted(tmp_path), ("buy", 10, 10.01))
    assert made.result().summary["rejects"] == {"halted": 1}
    assert told(made) == [("replay", 1001, 50)]


def test_a_run_may_begin_in_a_halt(tmp_path: Path) -> None:
    pair = halted(tmp_path)
    files = (pair.messages, pair.book)
    made = abm.Market(scenario(files, {SHARE: TERMS}, "2026-02-05T09:30:04Z", "2026-02-05T09:30:10Z"))
    made.run_for(1)
    assert made.view()[SHARE].phase == abm.exchange.messages.Phase.HALTED
    assert made.view()[SHARE].mid == pytest.approx(10.0)
    made.run_for(5)
    assert told(made) == [("replay", 1001, 50)]


def test_the_hash_of_a_scenario_knows_what_both_files_say(tmp_path: Path) -> None:
    def hashed(folder: str, change: Callable[[Pair], None] = lambda pair: None) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        pair = offers(tmp_path / folder)
        change(pair)
        pair.write()
        files = (pair.messages, pair.book)
        return scenario(files, {SHARE: TERMS}, "2026-02-05T09:30Z", "2026-02-05T09:30:10Z").hash

    def less(rows: list[str]) -> None:
        rows.pop()

    assert hashed("one") == hashed("other")
    assert (
        len({hashed("one"), hashed("a", lambda p: less(p.book_rows)), hashed("b", lambda p: less(p.message_rows))}) == 3
    )


def cut(path: Path, lines: int = 1) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-lines]))


FAULTS: dict[str, tuple[Callable[[Pair], Any], dict[str, Any], dict[str, Any], str, str]] = {
    "cut in a row": (
        lambda p: p.messages.write_text(p.messages.read_text()[:-9]),
        {},
        {},
        "path: {messages}: row 10: ",
        "instead of 6; the file is cut short, fetch it again",
    ),
    "cut after a row": (
        lambda p: cut(p.messages),
        {},
        {},
        "book: {book}: row 10: 10 rows, but {messages} has 9",
        "take both files of one download",
    ),
    "both cut": (
        lambda p: (cut(p.messages, 4), cut(p.book, 4)),
        {},
        {},
        "path: {messages}: rows from 2026-02-05T09:30:00 to 2026-02-05T09:30:05 UTC do not cover the run",
        "move clock.start and clock.end into them",
    ),
    "another day": (
        lambda p: None,
        {},
        {"midnight": "2026-02-05T00:00-05:00"},
        "path: {messages}: rows from 2026-02-05T14:30:00 to 2026-02-05T14:30:09 UTC do not cover the run",
        "or set midnight",
    ),
    "coarse tick": (
        lambda p: None,
        {"tick": 0.02},
        {},
        "path: {messages}: row 1: price 99900 is not on the tick of 0.02",
        "choose the tick of the file",
    ),
    "tick finer than a price": (lambda p: None, {"tick": 0.00005}, {}, "path: tick 0.00005", "whole number of 0.0001"),
    "max price": (lambda p: None, {"max_price": 10.01}, {}, "path: {messages}: there are", "share.max_price"),
    "max order": (lambda p: None, {"max_order": 99}, {}, "path: {messages}: there are orders up to 100", ".max_order"),
    "reference": (
        lambda p: None,
        {"reference_price": 20},
        {"start": "2026-02-05T09:30:03Z"},
        "path: {messages}: begins at 10",
        "set instruments.share.reference_price to that",
    ),
    "no such file": (lambda p: p.book.unlink(), {}, {}, "book: {book}: no such file", ""),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    spoil, terms, more, begins, fix = FAULTS[name]
    pair = offers(tmp_path)
    spoil(pair)
    made = scenario(
        (pair.messages, pair.book),
        {SHARE: TERMS | terms},
        **{"start": "2026-02-05T09:30Z", "end": "2026-02-05T09:30:10Z", **more},
    )
    with pytest.raises(abm.ScenarioError) as error:
        abm.Market(made)
    line = str(error.value)
    assert line.startswith("venue: traders.lobster." + begins.format(messages=pair.messages, book=pair.book))
    assert fix in line and "\n" not in line


def test_a_compressed_file_that_is_cut_short_is_refused_in_one_line(tmp_path: Path) -> None:
    pair = offers(tmp_path)
    packed = tmp_path / "message.csv.gz"
    packed.write_bytes(gzip.compress(pair.messages.read_bytes())[:-9])
    made = scenario((packed, pair.book), {SHARE: TERMS}, "2026-02-05T09:30Z", "2026-02-05T09:30:10Z")
    with pytest.raises(abm.ScenarioError, match=r"message\.csv\.gz: the gzip file is cut short or damaged; fetch it"):
        abm.Market(made)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no LOBSTER data in {DATA}")
@pytest.mark.parametrize(
    ("levels", "start", "end"),
    [("10_first999.csv", "13:30", "13:30:50"), ("1.csv.gz", "14:00", "14:10")],
)
def test_apple_on_21_june_2012_is_what_it_was(levels: str, start: str, end: str) -> None:
    files = tuple(DATA / f"AAPL_2012-06-21_{what}_{levels}" for what in ("message", "orderbook"))
    day = "2012-06-21T"
    made = abm.Market(scenario(files, {"aapl": APPLE}, f"{day}{start}Z", f"{day}{end}Z", midnight=NEW_YORK))
    assert differing_steps(made, files, NEW_YORK) == []
    result = made.result()
    assert result.audit.passed and result.summary["rejects"] == {}
    account = result.accounts.iloc[0]
    assert (account["cash_end"], account["aapl_end"]) == (account["cash_start"], account["aapl_start"])
