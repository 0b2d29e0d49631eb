"""What moved the price: the parts add up, over the whole run and over any hours, and the command says so."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import abm
from abm.agents.view import View
from abm.record import Result
from analysis.attribution import EXCHANGE, attribution
from experiments import cli


@pytest.fixture(scope="module")
def result() -> Result:
    return abm.run(abm.load("first-hour", clock={"end": "2026-02-05T02:20Z"}))


def test_the_parts_add_up_to_the_whole_way(result: Result) -> None:
    whole = attribution(result, "btc-spot")
    assert whole.first == 73_100.0
    assert whole.last == result.summary["instruments"]["btc-spot"]["close"]
    assert whole.residual == pytest.approx(0.0, abs=1e-6)
    parts = whole.parts
    assert parts["change"].sum() == pytest.approx(whole.last - whole.first)
    assert (parts["trades"] + parts["quotes"]).to_numpy() == pytest.approx(parts["change"].to_numpy())
    assert set(parts["kind"]) <= {each["kind"] for each in result.summary["traders"].values()} | {EXCHANGE}
    assert parts["change"].abs().is_monotonic_decreasing


def test_hours_add_up_to_the_run(result: Result) -> None:
    spans = [
        ("2026-02-05T00:00", "2026-02-05T01:00"),
        ("2026-02-05T01:00", "2026-02-05T02:00"),
        ("2026-02-05T02:00", None),
    ]
    found = [attribution(result, "btc-spot", start, end) for start, end in spans]
    assert [part.residual for part in found] == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
    assert found[0].last == found[1].first
    assert sum(part.last - part.first for part in found) == pytest.approx(found[2].last - 73_100.0)
    assert list(attribution(result, "btc-spot").by("time")["time"]) == sorted(part.start for part in found)


def test_takers_move_by_trades_and_market_makers_by_quotes(result: Result) -> None:
    sums = attribution(result, "btc-spot").by("kind").set_index("kind")
    assert abs(sums.loc["miners", "trades"]) > 0
    assert sums.loc["miners", "quotes"] == 0
    assert abs(sums.loc["market_makers", "quotes"]) > 0


class Buyer(abm.Trader):
    """Buys a coin now and then."""

    every = "1min"

    def act(self, view: View) -> None:
        """Do so."""
        self.buy("btc-spot", 1.0)


def test_hours_are_those_of_the_clock_and_who_joins_later_counts_from_then_on() -> None:
    market = abm.Market(abm.load("first-hour", clock={"start": "2026-02-05T00:40Z", "end": "2026-02-05T01:10Z"}))
    market.run_for("10min")
    Buyer(market, cash=1e8)
    market.run_for("20min")
    whole = attribution(market.result(), "btc-spot")
    assert whole.residual == pytest.approx(0.0, abs=1e-6)
    assert [f"{time:%H:%M}" for time in whole.by("time")["time"]] == ["00:40", "01:00"]
    mine = whole.by("trader").set_index("trader")
    assert mine.loc["buyer", "trades"] > 0
    assert EXCHANGE not in mine.index  # no auction and no halt
    late = attribution(market.result(), "btc-spot", "2026-02-05T01:00")
    assert late.residual == pytest.approx(0.0, abs=1e-6)
    assert late.first != whole.first


def test_bars_that_do_not_end_on_the_hour_tell_the_whole_run_alone() -> None:
    result = abm.run(abm.load("first-hour", clock={"end": "2026-02-05T01:10Z"}, recording={"interval": "7min"}))
    assert attribution(result, "btc-spot").residual == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match="do not end on the hour"):
        attribution(result, "btc-spot", "2026-02-05T01:00")


@pytest.mark.parametrize(
    ("instrument", "start", "end", "words"),
    [
        ("gold", None, None, "gold is not traded here"),
        ("btc-spot", "2026-02-05T00:30", None, "not a whole hour"),
        ("btc-spot", "2026-02-05T03:00", None, "not within the run"),
        ("btc-spot", "2026-02-05T01:00", "2026-02-05T01:00", "not within the run"),
        ("btc-spot", "noon", None, "not a moment"),
    ],
)
def test_what_a_run_does_not_cover_is_refused(
    result: Result, instrument: str, start: str | None, end: str | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        attribution(result, instrument, start, end)


def test_the_command(result: Result, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result.save(run)
    answer = CliRunner().invoke(cli.app, ["attribute", str(run), "--figure", str(tmp_path / "a.png")])
    assert answer.exit_code == 0, answer.output
    assert "residual" in answer.stdout
    assert "market_makers" in answer.stdout
    assert "no stages: calm" in answer.stdout
    assert "no liquidations" in answer.stdout
    assert (tmp_path / "a.png").stat().st_size > 5_000
    content = json.loads(
        CliRunner().invoke(cli.app, ["attribute", str(run), "--json", "--from", "2026-02-05T01:00"]).stdout
    )
    assert content["residual"] == 0
    assert sum(part["change"] for part in content["parts"]) == pytest.approx(content["last"] - content["first"])
    wrong = CliRunner().invoke(cli.app, ["attribute", str(run), "--instrument", "gold"])
    assert wrong.exit_code == 2
    assert "gold is not traded here; there is btc-spot" in wrong.stderr
    wrong = CliRunner().invoke(cli.app, ["attribute", str(run), "--figure", str(tmp_path / "a.xyz")])
    assert (wrong.exit_code, "must end with" in wrong.stderr) == (2, True)
