"""`abm replay lobster`: each rule and each damage on a small pair of files made here, and the real day."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from abm.lobster.files import Book, Messages
from abm.lobster.tape import Execution
from experiments.replay import lobster as lobster_module
from experiments.replay.lobster import LobsterReport, replay_lobster
from tests.unit.lobster_pair import BUY, CROSS, DELETE, EXECUTION, HALT, HIDDEN, NEW, PARTIAL, SELL, TICK, Level, Pair

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "lobster"


@pytest.fixture
def two(tmp_path: Path) -> Pair:
    return Pair(tmp_path, 2)


def day(pair: Pair) -> Pair:
    """A day with every type of message on levels whose queue is known."""
    pair.add(NEW, 1, 100, 999, BUY, [(999, 100)], [])
    pair.add(NEW, 2, 50, 999, BUY, [(999, 150)], [])
    pair.add(NEW, 3, 70, 1001, SELL, [(999, 150)], [(1001, 70)])
    pair.add(EXECUTION, 1, 40, 999, BUY, [(999, 110)], [(1001, 70)])
    pair.add(PARTIAL, 1, 20, 999, BUY, [(999, 90)], [(1001, 70)])
    pair.add(HIDDEN, 0, 10, 1000, SELL, [(999, 90)], [(1001, 70)])
    pair.add(EXECUTION, 1, 40, 999, BUY, [(999, 50)], [(1001, 70)])
    pair.add(EXECUTION, 2, 30, 999, BUY, [(999, 20)], [(1001, 70)])
    pair.add(CROSS, 0, 500, 1000, SELL, [(999, 20)], [(1001, 70)])
    pair.add(DELETE, 2, 20, 999, BUY, [], [(1001, 70)])
    return pair


def test_known_queues_are_followed_to_the_share(two: Pair) -> None:
    report = day(two).replay()
    assert report.messages == {
        "new": 3,
        "partial_cancel": 1,
        "delete": 1,
        "execution": 3,
        "hidden_execution": 1,
        "cross": 1,
        "halt": 0,
    }
    assert report.executions[Execution.NAMED] == 3
    assert (report.mismatches_known, report.levels_known, report.levels_unknown) == (0, 17, 0)
    assert report.sent == 8
    assert report.holds


def test_first_row_is_adopted_and_unknown_orders_use_it_up(two: Pair) -> None:
    two.add(NEW, 9, 10, 999, BUY, [(999, 110), (998, 30)], [(1001, 200)])
    two.add(EXECUTION, 1, 60, 999, BUY, [(999, 50), (998, 30)], [(1001, 200)])
    two.add(PARTIAL, 2, 15, 999, BUY, [(999, 35), (998, 30)], [(1001, 200)])
    two.add(DELETE, 2, 25, 999, BUY, [(999, 10), (998, 30)], [(1001, 200)])
    two.add(EXECUTION, 9, 10, 999, BUY, [(998, 30)], [(1001, 200)])
    report = two.replay()
    assert (report.adopted_levels, report.adopted_shares) == (3, 100 + 30 + 200)
    assert report.executions[Execution.ADOPTED] == 1, (
        "the adopted shares stand in front of the order that came in the first row"
    )
    assert report.executions[Execution.NAMED] == 1
    assert (report.levels_known, report.levels_unknown) == (1, 13)
    assert report.holds and report.mismatches_unknown == 0


def test_level_out_of_view_is_forgotten_and_adopted_again(tmp_path: Path) -> None:
    one = Pair(tmp_path, 1)
    one.add(NEW, 1, 100, 999, BUY, [(999, 100)], [])
    one.add(NEW, 2, 30, 1000, BUY, [(1000, 30)], [])
    one.add(DELETE, 2, 30, 1000, BUY, [(999, 80)], [])  # 20 of order 1 were cancelled unseen
    one.add(EXECUTION, 1, 80, 999, BUY, [], [])
    report = one.replay()
    assert (report.forgotten_levels, report.adopted_levels, report.adopted_shares) == (1, 1, 80)
    assert report.executions[Execution.ADOPTED] == 1 and report.executions[Execution.NAMED] == 0
    assert report.holds and report.mismatches_unknown == 0


def test_half_adopted_level_out_of_view_is_forgotten_whole(tmp_path: Path) -> None:
    one = Pair(tmp_path, 1)
    one.add(NEW, 1, 10, 1001, SELL, [], [(1001, 25)])
    one.add(NEW, 2, 5, 1000, SELL, [], [(1000, 5)])
    one.add(EXECUTION, 2, 5, 1000, SELL, [], [(1001, 40)])
    one.add(DELETE, 1, 10, 1001, SELL, [], [(1001, 30)])
    report = one.replay()
    assert (report.forgotten_levels, report.adopted_shares) == (1, 15 + 40)
    assert report.holds and report.mismatches_unknown == 0


@pytest.mark.parametrize("extra", [[(NEW, 3, 5)], [(NEW, 3, 5), (NEW, 4, 7)]])
def test_execution_past_an_earlier_order_is_counted_and_its_order_reduced(
    two: Pair, extra: list[tuple[int, int, int]]
) -> None:
    two.add(NEW, 1, 100, 999, BUY, [(999, 100)], [])
    total = 100
    for kind, order, size in extra:
        total += size
        two.add(kind, order, size, 999, BUY, [(999, total)], [])
    two.add(EXECUTION, 3, 5, 999, BUY, [(999, total - 5)], [])
    two.add(EXECUTION, 1, 100, 999, BUY, [(999, total - 105)] if total > 105 else [], [])
    report = two.replay()
    row = len(extra) + 2
    assert report.out_of_turn == {Execution.OVERTAKES_ORDER: [row], Execution.OVERTAKES_ADOPTED: []}
    assert report.executions[Execution.NAMED] == 1
    assert report.holds


def test_execution_past_adopted_shares_is_counted(two: Pair) -> None:
    two.add(NEW, 1, 100, 999, BUY, [(999, 130)], [])
    two.add(EXECUTION, 1, 40, 999, BUY, [(999, 90)], [])
    report = two.replay()
    assert report.out_of_turn[Execution.OVERTAKES_ADOPTED] == [2]
    assert report.holds


def test_halt_sets_the_phase_and_fills_of_its_auction_reduce(two: Pair) -> None:
    two.add(NEW, 1, 100, 999, BUY, [(999, 100)], [])
    two.add(NEW, 2, 100, 1001, SELL, [(999, 100)], [(1001, 100)])
    two.add(HALT, 0, 0, -1, -1, [(999, 100)], [(1001, 100)])
    two.add(PARTIAL, 1, 10, 999, BUY, [(999, 90)], [(1001, 100)])
    two.add(HALT, 0, 0, 0, -1, [(999, 90)], [(1001, 100)])
    two.add(NEW, 3, 25, 1001, BUY, [(1001, 25), (999, 90)], [(1001, 100)])  # crosses, and rests until the auction
    two.add(EXECUTION, 3, 25, 1001, BUY, [(999, 90)], [(1001, 100)])
    two.add(EXECUTION, 2, 25, 1001, SELL, [(999, 90)], [(1001, 75)])
    two.add(HALT, 0, 0, 1, -1, [(999, 90)], [(1001, 75)])
    two.add(EXECUTION, 1, 90, 999, BUY, [], [(1001, 75)])
    report = two.replay()
    assert report.messages["halt"] == 3
    assert report.executions[Execution.AUCTION] == 2 and report.executions[Execution.NAMED] == 1
    assert report.holds


def test_execution_behind_the_best_price_is_counted(two: Pair) -> None:
    two.add(NEW, 1, 100, 999, BUY, [(999, 100)], [])
    two.add(NEW, 2, 100, 1000, BUY, [(1000, 100), (999, 100)], [])
    two.add(EXECUTION, 1, 60, 999, BUY, [(1000, 100), (999, 40)], [])
    report = two.replay()
    assert report.executions[Execution.NOT_BEST] == 1
    assert report.holds


def test_fewer_levels_are_compared_on_demand(two: Pair) -> None:
    two.add(NEW, 1, 100, 999, BUY, [(999, 100)], [])
    two.add(NEW, 2, 100, 998, BUY, [(999, 100), (998, 77)], [])  # wrong at the second level
    assert two.replay(levels=1).holds
    assert not two.replay(levels=2).holds


def test_messages_beyond_the_book_are_not_sent(tmp_path: Path) -> None:
    one = Pair(tmp_path, 1)
    one.add(DELETE, 7, 5, 1000, BUY, [(999, 100)], [])  # of a level seen by nobody
    one.add(NEW, 1, 50, 998, BUY, [(999, 100)], [])
    one.add(DELETE, 1, 50, 998, BUY, [(999, 100)], [])
    one.add(EXECUTION, 5, 50, 998, BUY, [(999, 100)], [])
    report = one.replay()
    assert (report.unseen, report.executions[Execution.UNSEEN], report.sent) == (4, 1, 1)
    assert report.holds


@pytest.mark.parametrize(
    ("bids", "level", "engine", "file"),
    [
        ([(999, 90)], 1, (999, 100), (999, 90)),  # another size
        ([(998, 100)], 1, (999, 100), (998, 100)),  # another price
        ([], 1, (999, 100), (0, 0)),  # gone without a message
        ([(1000, 5), (999, 100)], 1, (999, 100), (1000, 5)),  # came inside the visible range without a message
        ([(999, 100), (998, 5)], 2, (0, 0), (998, 5)),
    ],
)
def test_what_the_messages_do_not_explain_is_a_mismatch(
    two: Pair, bids: list[Level], level: int, engine: Level, file: Level
) -> None:
    two.add(NEW, 1, 100, 999, BUY, [(999, 100)], [])
    two.add(HIDDEN, 0, 5, 1000, SELL, bids, [])
    report = two.replay()
    first = report.first[0]
    assert (first.row, first.side, first.level, first.engine, first.file) == (2, "bid", level, engine, file)
    assert report.mismatches_known >= 1 and not report.holds
    assert two.command().exit_code == 1


def test_mismatch_on_adopted_shares_is_told_apart(two: Pair) -> None:
    two.add(NEW, 1, 100, 999, BUY, [(999, 150)], [])
    two.add(HIDDEN, 0, 5, 1000, SELL, [(999, 149)], [])
    report = two.replay()
    assert (report.mismatches_known, report.mismatches_unknown) == (0, 1)
    assert report.holds
    assert two.command().exit_code == 0


@pytest.mark.parametrize("what", [NEW, PARTIAL, DELETE, EXECUTION])
def test_message_the_book_contradicts_is_named(two: Pair, what: int) -> None:
    two.add(NEW, 1, 100, 999, BUY, [(999, 100)], [])
    two.add(what, 1 if what == NEW else 2, 10, 999, BUY, [(999, 100)], [])
    report = two.replay()
    assert report.unexplained == [2]
    assert report.executions[Execution.UNEXPLAINED] == (what == EXECUTION)


@pytest.mark.parametrize("what", [PARTIAL, DELETE, EXECUTION])
def test_more_than_was_adopted_is_taken_only_as_far_as_it_goes(two: Pair, what: int) -> None:
    two.add(NEW, 1, 100, 999, BUY, [(999, 150)], [])
    two.add(what, 2, 60, 999, BUY, [(999, 100)], [])
    report = two.replay()
    assert report.unexplained == [2] and report.rejected == report.strays == 0
    assert report.holds


def test_day_without_a_visible_order(two: Pair) -> None:
    two.add(HIDDEN, 0, 100, 999, BUY, [], [])
    report = two.replay()
    assert report.holds and report.sent == 0


def test_trade_that_no_message_reports_fails(two: Pair) -> None:
    two.add(NEW, 1, 100, 999, BUY, [(999, 100)], [])
    two.add(NEW, 2, 30, 999, SELL, [(999, 100)], [(999, 30)])  # the file's book is locked: a price-time book trades
    report = two.replay()
    assert report.strays == 1 and not report.holds


def test_rejected_message_fails(two: Pair) -> None:
    two.add(NEW, 1, 100, 999, BUY, [(999, 100)], [])
    two.add(PARTIAL, 1, 101, 999, BUY, [(999, 100)], [])
    report = two.replay()
    assert report.rejected == 1 and not report.holds


def test_engine_with_another_priority_is_found_out(two: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(lobster_module.Exchange):
        def match(self, tape: Any) -> Any:
            report = super().match(tape)
            report.trades["maker"] += 1
            return report

    monkeypatch.setattr(lobster_module, "Exchange", Wrong)
    report = day(two).replay()
    assert report.wrong_maker == [4, 7, 8] and not report.holds


def test_queue_that_puts_the_overtaker_first_is_found_out(two: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lobster_module.Exchange, "queue_position", lambda self, order: (0, 0))
    two.add(NEW, 1, 100, 999, BUY, [(999, 100)], [])
    two.add(NEW, 2, 5, 999, BUY, [(999, 105)], [])
    two.add(EXECUTION, 2, 5, 999, BUY, [(999, 100)], [])
    assert two.replay().wrong_maker == [3]


def test_command_prints_rates_and_json(two: Pair) -> None:
    day(two).write()
    result = two.command()
    assert result.exit_code == 0
    assert "whole command" in result.stdout and "one pass" in result.stdout
    result = two.command("--json", "--levels", "1")
    content = json.loads(result.stdout)
    assert content["holds"] is True and content["levels"] == 1
    assert content["executions"][Execution.NAMED] == 3
    assert content["one_pass_s"] > 0 and content["rows_per_second"] > 0


def test_compressed_files_read_the_same(two: Pair) -> None:
    day(two).write()
    plain = json.loads(two.command("--json").stdout)
    for path in (two.messages, two.book):
        with gzip.open(f"{path}.gz", "wt") as file:
            file.write(path.read_text())
    two.messages, two.book = Path(f"{two.messages}.gz"), Path(f"{two.book}.gz")
    packed = json.loads(two.command("--json").stdout)
    timing = {"one_pass_s", "single_passes_s", "command_s", "rows_per_second"}
    assert {k: v for k, v in plain.items() if k not in timing} == {k: v for k, v in packed.items() if k not in timing}


def edit(number: int, change: Callable[[str], str]) -> Callable[[list[str]], list[str]]:
    """Change one row, counted from 1."""
    return lambda rows: [change(row) if i == number else row for i, row in enumerate(rows, 1)]


def put(column: int, value: str) -> Callable[[str], str]:
    return lambda row: ",".join(value if i == column else field for i, field in enumerate(row.split(",")))


DAMAGED_MESSAGES = {
    "truncated": (edit(10, lambda row: row[:-4]), "row 10: 5 columns instead of 6"),
    "truncated in its last field": (edit(3, lambda row: row[:-1]), "row 3: direction '-' is not a whole number"),
    "blank line": (edit(4, lambda row: ""), "row 4: 0 columns instead of 6"),
    "unknown type": (edit(2, put(1, "9")), "row 2: unknown type 9"),
    "type 0": (edit(2, put(1, "0")), "row 2: unknown type 0"),
    "time goes back": (edit(5, put(0, "34100.5")), "row 5: time 34100.5 is before"),
    "time is text": (edit(5, put(0, "noon")), "row 5: time 'noon' is not a number"),
    "time is not finite": (edit(1, put(0, "nan")), "row 1: time nan is not a time of day"),
    "negative size": (edit(2, put(3, "-50")), "row 2: negative size -50"),
    "no size": (edit(2, put(3, "0")), "row 2: size 0"),
    "size is text": (edit(2, put(3, "5e1")), "row 2: size '5e1' is not a whole number"),
    "number too large": (edit(2, put(3, "9" * 30)), f"row 2: size '{'9' * 30}' is not a whole number"),
    "off the tick": (edit(1, put(4, "99950")), "row 1: price 99950 is not on the tick of 0.01"),
    "price out of range": (edit(1, put(4, "9" * 15)), "row 1: price 999999999999999 is out of range"),
    "no price": (edit(1, put(4, "-100")), "row 1: price -100 is not positive"),
    "no order": (edit(1, put(2, "0")), "row 1: order id 0 is not positive"),
    "direction": (edit(1, put(5, "2")), "row 1: direction 2 is neither 1 nor -1"),
    "halt": (edit(6, lambda row: put(1, "7")(put(4, "2")(row))), "row 6: price 2 of a halt"),
    "first of two": (lambda rows: edit(3, put(1, "8"))(edit(6, put(3, "-1"))(rows)), "row 3: unknown type 8"),
    "empty": (lambda rows: [], "the file is empty"),
    "shorter than the book": (lambda rows: rows[:-1], "row 10: 10 rows, but"),
}
DAMAGED_BOOKS = {
    "truncated": (edit(10, lambda row: row[:-4]), "row 10: 7 columns instead of 8"),
    "columns": (edit(1, lambda row: row + ",1"), "row 1: 9 columns; a book has four for each level"),
    "negative size": (edit(4, put(3, "-7")), "row 4: negative size -7"),
    "size 0": (edit(4, put(3, "0")), "row 4: a level with a price has size 0"),
    "size of no level": (edit(4, put(7, "5")), "row 4: a level without a price has a size"),
    "off the tick": (edit(4, put(2, "99950")), "row 4: a price is not on the tick of 0.01"),
    "price": (edit(4, put(2, "-99900")), "row 4: a price is not positive"),
    "text": (edit(4, put(3, "x")), "row 4: bid size 1 'x' is not a whole number"),
    "hole": (
        edit(1, lambda row: "9999999999,0,99900,100,100100,5,-9999999999,0"),
        "row 1: a level is missing between two others",
    ),
    "bids out of order": (
        edit(1, lambda row: "9999999999,0,99900,100,9999999999,0,100000,5"),
        "row 1: bid levels are not in falling order",
    ),
    "asks out of order": (
        edit(1, lambda row: "99900,5,-9999999999,0,99900,5,-9999999999,0"),
        "row 1: ask levels are not in rising order",
    ),
    "longer than the messages": (lambda rows: [*rows, rows[-1]], "row 11: 11 rows, but"),
}


@pytest.mark.parametrize("name", DAMAGED_MESSAGES)
def test_damaged_message_file_gets_one_line(two: Pair, name: str) -> None:
    change, reason = DAMAGED_MESSAGES[name]
    two.message_rows = change(day(two).message_rows)
    assert_refused(two.write(), two.book if "shorter" in name else two.messages, reason)


@pytest.mark.parametrize("name", DAMAGED_BOOKS)
def test_damaged_book_file_gets_one_line(two: Pair, name: str) -> None:
    change, reason = DAMAGED_BOOKS[name]
    two.book_rows = change(day(two).book_rows)
    assert_refused(two.write(), two.book, reason)


def test_file_that_is_no_text_or_not_there_gets_one_line(two: Pair, tmp_path: Path) -> None:
    day(two).write()
    good = two.messages
    content = gzip.compress(good.read_bytes())
    for name, stuff, reason in (
        ("plain.csv.gz", good.read_bytes(), "not a gzip file"),
        ("short.csv.gz", content[:-9], "the gzip file is cut short or damaged"),
        ("damaged.csv.gz", content[:20] + b"\xff\xff\xff" + content[23:], "the gzip file is cut short or damaged"),
        ("packed.csv", content, "not a text file (a gzip file must end in .gz)"),
    ):
        two.messages = tmp_path / name
        two.messages.write_bytes(stuff)
        assert_refused(two, two.messages, reason)
    two.messages = tmp_path / "nowhere.csv"
    assert_refused(two, two.messages, "no such file or directory")
    two.messages = tmp_path
    assert_refused(two, two.messages, "is a directory")


def test_more_levels_than_the_book_has_gets_one_line(two: Pair) -> None:
    assert_refused(day(two).write(), two.book, "row 1: 2 levels, 3 asked for with --levels", "--levels", "3")


@pytest.mark.parametrize("tick", ["0", "-0.01", "cent", "0.00005", "nan"])
def test_tick_that_is_none_is_refused(two: Pair, tick: str) -> None:
    result = day(two).write().command("--tick", tick)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"--tick {tick}: ") and result.stderr.count("\n") == 1


def test_another_tick_reads_finer_prices(two: Pair) -> None:
    day(two)
    two.message_rows = [row.replace(",99900,", ",99901,") for row in two.message_rows]
    two.book_rows = [row.replace(",99900,", ",99901,") for row in two.book_rows]
    assert_refused(two.write(), two.messages, "row 1: price 99901 is not on the tick of 0.01")
    assert two.command("--tick", "0.0001").exit_code == 0


def test_hidden_execution_may_lie_between_ticks(two: Pair) -> None:
    day(two)
    two.message_rows[5] = put(4, "100050")(two.message_rows[5])
    assert two.replay().holds


def assert_refused(pair: Pair, path: Path, reason: str, *options: str) -> None:
    result = pair.command(*options)
    assert result.exit_code == 2
    assert result.stdout == ""
    line = result.stderr.rstrip("\n")
    assert line.startswith(f"{path}: {reason}") and "\n" not in line


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no LOBSTER data in {DATA}")
class TestAppleDay:
    """The sample of 21 June 2012 that the exchange is held against."""

    def test_first_messages_at_ten_levels(self) -> None:
        name = "AAPL_2012-06-21_{}_10_first999.csv"
        report = replayed(name.format("message"), name.format("orderbook"))
        assert (report.rows, report.levels) == (999, 10)
        assert report.holds
        assert report.mismatches_unknown == 0 and report.unexplained == [] and report.unseen == 0
        assert sum(report.executions.values()) == report.messages["execution"] == 98
        assert (report.executions[Execution.NAMED], report.executions[Execution.ADOPTED]) == (90, 8)
        assert (report.adopted_levels, report.adopted_shares) == (337, 115_179)
        assert (report.levels_known, report.levels_unknown) == (9_268, 10_712)

    def test_whole_day_at_one_level(self) -> None:
        name = "AAPL_2012-06-21_{}_1.csv.gz"
        report = replayed(name.format("message"), name.format("orderbook"))
        assert (report.rows, report.levels) == (118_497, 1)
        assert report.holds
        assert report.mismatches_unknown == 0 and report.unexplained == [] and report.unseen == 0
        assert sum(report.executions.values()) == report.messages["execution"] == 23_658
        assert (report.executions[Execution.NAMED], report.executions[Execution.ADOPTED]) == (10_913, 12_720)
        assert [len(rows) for rows in report.out_of_turn.values()] == [23, 2]
        assert (report.adopted_levels, report.adopted_shares) == (30_072, 4_669_801)
        assert (report.levels_known, report.levels_unknown) == (125_908, 111_086)


def replayed(messages: str, book: str) -> LobsterReport:
    states = Book(DATA / book, TICK)
    assert np.all(states.price[0, :, 0] < states.price[1, :, 0])
    return replay_lobster(Messages(DATA / messages, TICK), states, states.levels, TICK)
