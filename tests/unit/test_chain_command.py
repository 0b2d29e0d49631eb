"""`abm chain` and `abm network`: what they print, write and refuse."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import abm
from abm.contagion.chain import branches
from abm.contagion.graph import read_graphml
from experiments.cli import app
from tests.unit.small_cascade import small_cascade
from tests.unit.two_assets import two_assets


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "run"
    abm.run(two_assets(hours=2, recording={"interval": "1min", "network": "30min"})).save(place)
    return place


def test_stages_are_told_in_json_and_in_a_table(folder: Path) -> None:
    told = json.loads(CliRunner().invoke(app, ["chain", str(folder), "--calm", "1h", "--json"]).stdout)
    assert {stage["stage"] for stage in told["stages"]} >= {"institutional_exit", "forced_liquidation"}
    assert told["liquidations"] == 0 and told["trees"] == []
    assert [day["day"] for day in told["fear_and_greed"]] == ["2026-02-05T00:00Z"]
    assert 0 <= told["fear_and_greed"][0]["lowest"] <= told["fear_and_greed"][0]["index"] <= 100
    table = CliRunner().invoke(app, ["chain", str(folder), "--calm", "1h", "--asset", "eth"])
    assert table.exit_code == 0
    assert "market_making_collapse" in table.stdout and "no liquidations" in table.stdout
    assert "greed (100) of eth-spot" in table.stdout
    assert table.stdout.splitlines()[-1].startswith("2026-02-05")


def test_as_many_trees_are_told_as_are_asked_for(tmp_path: Path) -> None:
    result = abm.run(small_cascade())
    result.save(tmp_path / "run")
    every = branches(result.causes())
    assert len(every) > 6
    for asked, told in (([], 5), (["--trees", "2"], 2), (["--trees", str(len(every) + 1)], len(every))):
        found = json.loads(CliRunner().invoke(app, ["chain", str(tmp_path / "run"), *asked, "--json"]).stdout)
        assert (len(found["trees"]), found["all_trees"]) == (told, len(every))
        assert found["liquidations"] == every["liquidations"].sum()
        assert [tree["notional"] for tree in found["trees"]] == sorted(every["notional"], reverse=True)[:told]


def test_the_network_is_counted_and_written(folder: Path, tmp_path: Path) -> None:
    told = json.loads(CliRunner().invoke(app, ["network", str(folder), "--json"]).stdout)
    assert told["nodes"] == {"asset": 2, "holder": 20 + 2 * 20 + 2 * 4, "broker": 1}
    assert len(told["exports"]) == 5
    assert told["importance"][0].keys() == {"node", "kind", "size", "debtrank", "failures", "loss"}
    assert {row["node"] for row in told["importance"]} > {"btc-spot", "eth-spot", "funds/0"}
    table = CliRunner().invoke(app, ["network", str(folder), "--fall", "0.8"])
    assert "each of these assets fell by 80%" in table.stdout
    assert [line.split()[0] for line in table.stdout.splitlines() if " asset " in line] == ["btc-spot", "eth-spot"]
    assert "A fall of any one asset by 10% fails nobody" in CliRunner().invoke(app, ["network", str(folder)]).stdout
    out = tmp_path / "net.graphml"
    written = CliRunner().invoke(app, ["network", str(folder), "--at", "2026-02-05T01:00", "--out", str(out)])
    assert written.exit_code == 0
    assert read_graphml(out).number_of_edges() == abm.read_result(folder).graph("2026-02-05T01:00").number_of_edges()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chain", "nowhere"], "not a run folder"),
        (["chain", "RUN", "--asset", "doge"], "no bars of 'doge'; there are btc-spot, eth-spot"),
        (["chain", "RUN", "--calm", "5min"], "fewer than ten bars; choose a longer time"),
        (["chain", "RUN", "--calm", "soon"], "--calm: 'soon' is not a duration"),
        (["network", "RUN", "--at", "yesterday"], "'yesterday' is not a moment"),
        (["network", "RUN", "--at", "2025-01-01"], "no network until 2025-01-01"),
        (["network", "RUN", "--fall", "2"], "fall = 2.0: must be above 0 and at most 1"),
        (["network", "RUN", "--out", "/nowhere/at/all.graphml"], "No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(folder: Path, arguments: list[str], words: str) -> None:
    answer = CliRunner().invoke(app, [str(folder) if part == "RUN" else part for part in arguments])
    assert answer.exit_code == 2
    assert words in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1
