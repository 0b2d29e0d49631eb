"""With accounts the trades must be the same, and what the bench counts must have happened. Nothing here is timed."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from abm.exchange import Exchange, Status
from abm.exchange.messages import Forced
from experiments.bench import accounts, app, clearing_house, engine, quiet, tape
from experiments.bench.report import Report


@pytest.fixture(scope="module")
def made() -> tape.Tape:
    return tape.make("standard")


def test_half_of_the_orders_are_of_market_makers_and_who_cancels_sent_the_order(made: tape.Tape) -> None:
    messages = accounts.owned(made, 1_000)
    kind, order, owner = made.rows[:, 0], made.rows[:, 4], messages["owner"]
    assert owner.min() == 0
    assert owner.max() == accounts.MAKERS + 999
    assert (owner < accounts.MAKERS).mean() == pytest.approx(0.5, abs=0.01)
    cancels, creators = kind == tape.CANCEL, kind != tape.CANCEL
    sender = dict(zip(order[creators].tolist(), owner[creators].tolist(), strict=True))
    assert [sender[each] for each in order[cancels].tolist()] == owner[cancels].tolist()


def test_everybody_has_a_position_and_nobody_is_near_liquidation() -> None:
    world = accounts.opened(500)
    position = world.exchange.accounts.position[accounts.MAKERS : accounts.MAKERS + 500, 0]
    np.testing.assert_array_equal(position, np.tile([accounts.POSITION, -accounts.POSITION], 250))
    prices = world.house.liquidation_prices(accounts.NAME)[accounts.MAKERS : accounts.MAKERS + 500]
    assert np.isfinite(prices).mean() > 0.9
    assert np.nanmin(np.abs(prices / tape.FIRST_MID - 1)) > 0.03
    assert world.house.audit().passed


def test_the_tape_leads_to_the_same_trades_with_accounts_as_without(made: tape.Tape) -> None:
    world = accounts.opened(2_000)
    report = world.exchange.match(accounts.owned(made, 2_000))
    assert not (report.outcomes["status"] == Status.REJECTED).any()
    assert len(report.liquidations) == 0
    bare = Exchange([tape.INSTRUMENT]).match(made.messages()).trades
    for name in ("maker", "taker", "price", "quantity"):
        np.testing.assert_array_equal(report.trades[name], bare[name])
    assert world.house.audit().passed


@pytest.mark.parametrize("style", ["full", "ladder"])
@pytest.mark.parametrize("a_tick", [3, 60])
def test_the_fall_liquidates_the_band_into_the_book(style: str, a_tick: int) -> None:
    world, sales = accounts.crowded(3_000, a_tick, style)
    assert not (world.exchange.accounts.position[accounts.MAKERS :, 0][:3_000] != accounts.LOTS).any()
    records = world.exchange.match(sales).liquidations
    assert set(records["what"]) == {Forced.LIQUIDATED}
    if style == "full":
        assert len(records) == 3_000
        assert not world.exchange.accounts.position[accounts.MAKERS :].any()
    else:
        assert len(records) > 1_000  # it sells less, so that the price falls less far
    assert world.house.audit().passed


def test_json_holds_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clearing_house, "SIZES", (2_000, 4_000))
    monkeypatch.setattr(clearing_house, "LONGS", 3_000)
    monkeypatch.setattr(clearing_house, "DENSITIES", (3, 60))
    result = CliRunner().invoke(app, ["clearing", "--repeat", "1", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    figures = {figure["what"]: figure for figure in report["figures"]}
    assert {"2,000 accounts", "4,000 accounts", "time to that at 2,000", "funding of 4,000"} <= set(figures)
    assert {"liquidations, full", "liquidations, ladder", "tables, an account"} <= set(figures)
    assert all(figure["value"] > 0 for what, figure in figures.items() if "process" not in what)


def test_disturbed_passes_are_left_out_and_counted() -> None:
    own = {10: [1.0, 1.5, 1.1, 1.19], 20: [1.3, 1.1, 1.21, 1.0]}
    for bare, left, said in (
        ([], {10: [0, 2, 3], 20: [1, 3]}, "3 of 8"),  # no compiler
        ([1.1, 1.1, 1.1, 1.3], {10: [0, 2], 20: [1]}, "5 of 8"),
    ):
        report = Report("")
        assert clearing_house._quiet_enough(report, {0: bare, **own}, 1) == left
        assert report.notes == [f"Passes of the tape left out as disturbed: {said}."]


def test_where_nothing_was_undisturbed_every_pass_counts_and_that_is_said() -> None:
    report = Report("")
    assert clearing_house._quiet_enough(report, {0: [], 10: [1.0, 1.1], 20: [1.5, 1.6]}, 1) == {10: [0, 1], 20: [0, 1]}
    assert "hardly ever undisturbed" in report.notes[0]


def test_the_probe_is_slower_where_memory_is_asked_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads as many again take longer: the least that a probe of memory must see."""
    once = min(quiet.Probe().seconds() for _ in range(5))
    monkeypatch.setattr(quiet, "_READS", 4 * quiet._READS)
    assert min(quiet.Probe().seconds() for _ in range(5)) > 1.5 * once


def test_other_trades_than_those_of_the_tape_fail_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    play = engine.play

    def spoiled(messages: np.ndarray, exchange: Exchange | None = None) -> tape.Pass:
        done = play(messages[:1_000], exchange)
        return done._replace(totals=tape.EXPECTED["standard"]._replace(live=7))

    monkeypatch.setattr(engine, "play", spoiled)
    monkeypatch.setattr(clearing_house, "SIZES", (200,))
    monkeypatch.setattr(clearing_house, "_memory", lambda *_: None)
    result = CliRunner().invoke(app, ["clearing", "--repeat", "1"])
    assert result.exit_code == 1
    assert result.stderr == "the bench fails: the exchange with 200 accounts on the standard tape: live 7, not 1173\n"
