"""The bench is worth something if everyone plays one tape and comes to the same trades. Nothing here is timed."""

import hashlib
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from abm.exchange import Exchange
from abm.exchange.messages import Status
from experiments.bench import app, engine, measure, tape
from experiments.bench.reference import NoCompiler, ReferenceBook
from experiments.bench.report import Report

PUBLISHED = {
    "standard": "0d795e2130c9c9d1bd549e490dd0a58de7cd558f3b27938d2927b11176d6e0c3",
    "deep": "6226ac349b7d28e6ad469c5180870518c2df9999b9be9d493d698b18c0c8a7aa",
}


@pytest.fixture(scope="module", params=PUBLISHED)
def made(request: pytest.FixtureRequest) -> tape.Tape:
    return tape.make(request.param)


def test_every_byte_is_that_of_the_published_tape(made: tape.Tape) -> None:
    assert hashlib.sha256(made.rows.tobytes()).hexdigest() == PUBLISHED[made.name]


def test_the_exchange_comes_to_the_printed_totals(made: tape.Tape) -> None:
    assert engine.play(made.messages()).totals == made.expected


def test_no_message_of_the_tape_is_rejected(made: tape.Tape) -> None:
    outcomes = Exchange([tape.INSTRUMENT]).match(made.messages()).outcomes
    assert not (outcomes["status"] == Status.REJECTED).any()


def test_the_exchange_and_the_cpp_book_agree_fill_by_fill(made: tape.Tape) -> None:
    try:
        book = ReferenceBook(made)
    except NoCompiler as reason:
        pytest.skip(str(reason))
    with book:
        assert book.play().totals == made.expected
        theirs = book.fills()
    trades = Exchange([tape.INSTRUMENT]).match(made.messages()).trades
    ours = np.column_stack([trades[name] for name in ("maker", "taker", "price", "quantity")])
    np.testing.assert_array_equal(ours, theirs)


def test_small_batches_lead_to_the_same_book_as_one_pass() -> None:
    messages = tape.make("standard").messages()[:50_000]
    whole, parts = Exchange([tape.INSTRUMENT]), Exchange([tape.INSTRUMENT])
    trades = whole.match(messages).trades
    pieces = [parts.match(messages[i : i + engine.BATCH]).trades for i in range(0, len(messages), engine.BATCH)]
    np.testing.assert_array_equal(np.concatenate(pieces), trades)


def test_wrong_totals_fail_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    right = tape.EXPECTED["standard"]
    monkeypatch.setitem(tape.EXPECTED, "standard", right._replace(volume=right.volume + 1))
    result = CliRunner().invoke(app, ["--tape", "standard", "--repeat", "1"])
    assert result.exit_code == 1
    assert result.stderr == ("the bench fails: the exchange on the standard tape: volume 3037402, not 3037403\n")
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [["--tape", "shallow"], ["--repeat", "0"], ["clearing", "--repeat", "0"]])
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert arguments[-2] in result.stderr


def test_options_before_a_command_are_not_silently_dropped() -> None:
    result = CliRunner().invoke(app, ["--repeat", "3", "clearing"])
    assert result.exit_code == 2
    assert "options of abm bench clearing stand behind its name" in result.stderr


def test_json_holds_the_figures_and_what_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "time_start", lambda repeat: engine.Start(cold=30.0, warm=1.0))
    monkeypatch.setattr("experiments.bench.reference.shutil.which", lambda name: None)
    monkeypatch.setattr(engine, "play_in_batches", lambda messages: 0.5)
    result = CliRunner().invoke(app, ["--tape", "standard", "--repeat", "1", "--json"])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    figures = {figure["what"]: figure for figure in report["figures"]}
    assert figures["cold start: compile all"]["reached"] is False
    assert figures["warm start: import, match"]["reached"] is True
    assert figures["OrderBook, batches of 100"]["value"] == tape.LENGTH / 0.5
    left_out = "C++ reference on the standard tape left out: no C++ compiler here (c++, g++ or clang++)"
    assert left_out in report["notes"]


@pytest.mark.peers
def test_peers_come_to_the_same_book(made: tape.Tape) -> None:
    report = Report("")
    for peer in measure.PEERS:
        if not peer.simulator:
            measure._beside(report, peer, made, ours=1.0, repeat=1)
    assert report.notes == []
    assert len(report.figures) == 2
