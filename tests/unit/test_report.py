"""`abm report`: a page that stands alone, with everything in it that the run has, and one line for what it has not."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import abm
from abm.contagion.chain import branches
from analysis.sweep import Sweep
from experiments.cli import app
from tests.unit.small_cascade import small_cascade

EVIL = '<script>alert("1")</script> & co'
SECTIONS = ["story", "prices", "observed", "attribution", "stages", "cascade", "network", "stylised", "audit", "repeat"]
VOID = {"meta", "img", "br", "hr"}


class Page(HTMLParser):
    """Reads a page: its tags, texts by section, and that each tag is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {"": ""}
        self._open: list[str] = []
        self._section = ""
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "section":
            self._section = str(dict(attrs)["id"])
            self.texts[self._section] = ""
        elif tag == "footer":
            self._section = ""

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts[self._section] += data


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds, with a trader whose name is written to be mischief."""
    place = tmp_path_factory.mktemp("runs")
    traders = small_cascade().model_dump()["traders"]
    traders[EVIL] = traders.pop("noise")
    for seed in (1, 2):
        abm.run(small_cascade(seed, traders=traders)).save(place / str(seed))
    return [place / "1", place / "2"]


def report(*arguments: object) -> tuple[int, str]:
    answer = CliRunner().invoke(app, ["report", *map(str, arguments)])
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer.exit_code, answer.stderr if answer.exit_code else answer.stdout


def page(*arguments: object) -> tuple[Page, str]:
    code, printed = report(*arguments)
    assert code == 0, printed
    text = Path(printed.strip()).read_text("utf-8")
    return Page(text), text


@pytest.fixture(scope="module")
def one(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str]:
    """The page of the first run."""
    return page(runs[0], "--out", tmp_path_factory.mktemp("pages") / "one.html")


def test_the_page_stands_alone(one: tuple[Page, str]) -> None:
    read, text = one
    tags = [tag for tag, _ in read.tags]
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(tags)
    for tag, attributes in read.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "srcset", "action", "data", "style"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:image/svg+xml;base64,", "data:image/png;base64,", "#")) or not value, (
                tag,
                value[:60],
            )
    outside_pictures = re.sub(r'src="data:[^"]*"', "", text)
    assert not re.search(r"https?:|//|url\(|@import", outside_pictures)
    assert "default-src 'none'" in outside_pictures
    assert all(attributes["alt"] for tag, attributes in read.tags if tag == "img")
    named = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    assert {f"#{name}" for name in named} == {attributes["href"] for tag, attributes in read.tags if tag == "a"}


def test_all_sections_are_there_and_say_the_runs_numbers(one: tuple[Page, str], runs: list[Path]) -> None:
    read, _ = one
    result = abm.read_result(runs[0])
    assert [attributes["id"] for tag, attributes in read.tags if tag == "section"] == SECTIONS
    assert read.texts[""].count("Left out") == 0
    about, trees = result.summary["instruments"]["btc-spot"], branches(result.causes())
    story = read.texts["story"]
    assert f"fell by {-about['return']:.1%}, from 73,100.00 to {about['close']:,.2f} USD" in story
    assert f"Of {result.summary['liquidations']['liquidated']:,} liquidations" in story
    assert int((trees["liquidations"] - 1).sum()) > 0
    first, *_ = result.stages().dropna()["stage"]
    assert f"in this order: {first.replace('_', ' ')}" in story
    assert "made for tests" in story
    assert f"{trees['notional'].iloc[0]:,.0f}" in read.texts["cascade"]
    assert "0.00 is not accounted for" in read.texts["attribution"]
    assert "Predicted" in read.texts["observed"] and "Fitted" in read.texts["observed"]
    assert "btc.ret.feb5" in read.texts["observed"] and "news.calendar" in read.texts["observed"]
    assert result.summary["event_log_hash"] in read.texts["repeat"]
    assert "passed" in read.texts["audit"] and "FAILED" not in read.texts["audit"]


def test_names_are_escaped(one: tuple[Page, str]) -> None:
    read, text = one
    assert EVIL not in text
    assert EVIL in read.texts["story"] or EVIL in read.texts["network"]


def test_the_same_run_gives_the_same_page(one: tuple[Page, str], runs: list[Path], tmp_path: Path) -> None:
    assert page(runs[0], "--out", tmp_path / "again.html")[1] == one[1]


def test_several_runs_have_medians_and_intervals(runs: list[Path], tmp_path: Path) -> None:
    read, _ = page(*runs, "--out", tmp_path / "r.html")
    changes = sorted(abm.read_result(run).summary["instruments"]["btc-spot"]["return"] for run in runs)
    assert f"changes by {sum(changes) / 2:+.1%} (median" in read.texts["story"]
    shown = next(run for run in runs if abm.read_result(run).summary["instruments"]["btc-spot"]["return"] == changes[0])
    assert f"seed {shown.name}." in read.texts["story"]
    for key in ("prices", "observed", "attribution", "cascade"):
        assert "nine" in read.texts[key], key
    assert "of 2" in read.texts["stages"]
    hashes = [abm.read_result(run).summary["event_log_hash"] for run in runs]
    assert all(mine in read.texts["repeat"] for mine in hashes)


def test_a_perpetual_that_left_its_index_is_told(runs: list[Path], tmp_path: Path) -> None:
    result = abm.read_result(runs[0])
    far = result.bars["mid"].where(result.bars["instrument"] != "btc-perp", result.bars["mid"] * 0.5)
    replace(result, bars=result.bars.assign(mid=far)).save(tmp_path / "broken")
    story = page(tmp_path / "broken", runs[1])[0].texts["story"]
    prices = page(tmp_path / "broken", "--out", tmp_path / "b.html")[0].texts["prices"]
    assert "Furthest from the index that the mark follows, in the mean of an hour: btc-perp -50." in prices
    assert story.count("Far from its index") == 1 and "(seed 1)" in story
    assert "Far from its index" not in page(*runs, "--out", tmp_path / "r.html")[0].texts["story"]


def test_what_a_run_lacks_is_left_out_with_a_line(tmp_path: Path) -> None:
    abm.run(abm.load("first-hour", clock={"end": "2026-02-05T00:03Z"})).save(tmp_path / "run")
    read, _ = page(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").is_file()
    assert [attributes["id"] for tag, attributes in read.tags if tag == "section"] == [
        "story",
        "prices",
        "observed",
        "attribution",
        "network",
        "audit",
        "repeat",
    ]
    left_out = read.texts[""]
    assert "What set off what: nothing is traded on margin here" in left_out
    assert "In what order it came: calm: the run is over within its first 1d" in left_out
    assert "200 are needed" in left_out


def test_an_audit_that_failed_is_told(runs: list[Path], tmp_path: Path) -> None:
    summary = json.loads((runs[0] / "summary.json").read_text())
    summary["audit"]["faults"] = ["cash: 1 too many"]
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in runs[0].iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "summary.json").write_text(json.dumps(summary))
    assert "FAILED: cash: 1 too many" in page(broken)[0].texts["audit"]


def test_what_cannot_be_told_is_refused_in_one_line(runs: list[Path], tmp_path: Path) -> None:
    for arguments, words in (
        ((tmp_path / "none",), "not a run folder"),
        ((runs[0], runs[0]), "give each seed once"),
        ((runs[0], "--out", tmp_path / "r.pdf"), "must end with .html"),
        ((runs[0], "--out", tmp_path / "nowhere" / "r.html"), "there is no folder"),
    ):
        code, line = report(*arguments)
        assert (code, words in line, len(line.strip().splitlines())) == (2, True, 1), line


def made_sweep(folder: Path) -> Sweep:
    """Six points of two keys, three replications, two runs that failed."""
    rows: list[dict[str, Any]] = []
    for point, (depth, rule) in enumerate(
        (depth, rule) for depth in (1e6, 1e7, 1e8) for rule in ("none", "<b>cap</b>")
    ):
        for replication in range(3):
            failed = point == 5 and replication < 2
            rows.append(
                {
                    "point": point,
                    "replication": replication,
                    "seed": replication + 1,
                    "scenario_hash": f"{point}{replication}",
                    "makers.depth": depth,
                    "rule": rule,
                    "drawdown": float("nan") if failed else -0.01 * point - 0.001 * replication,
                    "seconds": 1.0,
                    "stage": "run" if failed else "",
                    "error": "ValueError: <i>too deep</i>" if failed else "",
                    "traceback": "",
                }
            )
    manifest = {
        "name": "made",
        "spec": {"scenario": "first-hour", "vary": {"makers.depth": {"values": [1e6, 1e7, 1e8]}}},
        "own_measures": [],
        "version": "1",
        "versions": {"python": "3.12"},
        "design": {"kind": "grid"},
        "keys": {"makers.depth": "depth", "rule": "what is in force"},
        "measures": {"drawdown": {"unit": "1", "about": "deepest fall"}},
        "tables": [],
        "counts": {"points": 6, "replications": 3, "runs": 18, "failed": {"run": 2}},
        "seconds_of_runs": 18.0,
        "began": "2026-02-05T00:00:00+00:00",
        "ended": "2026-02-05T00:01:00+00:00",
    }
    sweep = Sweep(pd.DataFrame(rows), manifest)
    sweep.write(folder)
    return sweep


def test_a_sweep_is_told_with_its_points_figures_and_failures(tmp_path: Path) -> None:
    made_sweep(tmp_path / "sweep")
    read, text = page(tmp_path / "sweep")
    assert [attributes["id"] for tag, attributes in read.tags if tag == "section"] == [
        "design",
        "points",
        "figures",
        "failures",
        "repeat",
    ]
    assert sum(tag == "img" for tag, _ in read.tags) == 1
    assert "-3.10% [-3.19%, -3.01%]" in read.texts["points"]
    assert "2 of 18 runs failed: 2 at stage run" in read.texts["failures"]
    assert "<i>too deep</i>" in read.texts["failures"] and "<i>" not in text
    assert "<b>cap</b>" in read.texts["design"] and "<b>" not in text
    assert "scenario: first-hour" in read.texts["repeat"]
    code, line = report(tmp_path / "sweep", tmp_path / "sweep")
    assert (code, "a sweep is told alone" in line) == (2, True)


def test_a_sweep_without_failures_says_so(tmp_path: Path) -> None:
    made = made_sweep(tmp_path / "sweep")
    Sweep(made.table[made.table["error"] == ""], made.manifest).write(tmp_path / "good")
    assert "Failures: no run failed" in page(tmp_path / "good")[0].texts[""]
