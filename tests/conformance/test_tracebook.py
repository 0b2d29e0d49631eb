"""tracebook-conformance: its suite v2 whole, and seeded campaigns, over its stdio protocol."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracebook.conformance import copy_bundled_conformance_suite, run_conformance_suite
from tracebook.conformance.cli import main

from abm.exchange.messages import SelfTrade
from tests.conformance import tracebook_adapter

HERE = Path(__file__).parent
CASES = {
    "fifo-lifecycle",
    "order-instructions",
    "stp-cancel-resting",
    "stp-cancel-resting-deep",
    "stp-cancel-incoming",
    "pro-rata-allocation",
    "multi-symbol",
    "tick-grid",
    "deep-cancellation",
}
PROFILES = ("fifo-limit-v1", "fifo-full-v1", "fifo-partial-fill-v1")
CAMPAIGNS = [(seed, PROFILES[seed % len(PROFILES)]) for seed in range(50)]
EVENTS = 180
"""The probe of queue priority ends by event 175 of a trace."""


def candidate(script: str, *arguments: str) -> list[str]:
    """Options of the suite's command that name the process to test; compiling the kernels may take it a minute."""
    return ["--timeout", "300", "--candidate", sys.executable, str(HERE / script), *arguments]


@pytest.fixture(scope="module")
def port() -> Iterator[str]:
    """An adapter that has loaded the engine and waits."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "tracebook_adapter.py"), "--port"], stdout=subprocess.PIPE, text=True
    ) as adapter:
        assert adapter.stdout is not None
        yield adapter.stdout.readline().strip()
        adapter.terminate()


def test_suite_v2_passes_whole(tmp_path: Path) -> None:
    suite = copy_bundled_conformance_suite(tmp_path / "suite", suite_version="v2")
    assert {case.name for case in suite.cases} == CASES
    report = tmp_path / "report.json"
    code = main(["suite", str(suite.root), "--output", str(report), *candidate("tracebook_adapter.py")])
    content = json.loads(report.read_text())
    assert [case["name"] for case in content["cases"] if not case["report"]["conformant"]] == []
    assert (code, content["conformant_cases"], content["case_count"]) == (0, 9, 9)


@pytest.mark.parametrize(("seed", "profile"), CAMPAIGNS)
def test_seeded_campaign(seed: int, profile: str, port: str, tmp_path: Path) -> None:
    options = ["--profile", profile, "--seed", str(seed), "--traces", "1", "--events-per-trace", str(EVENTS)]
    code = main(["campaign", "--output-dir", str(tmp_path / "campaign"), *options, *candidate("relay.py", port)])
    content = json.loads((tmp_path / "campaign" / "campaign.json").read_text())
    assert content["failure"] is None
    assert (code, content["completed_traces"], content["generated_events"]) == (0, 1, EVENTS)


def test_suite_finds_an_engine_that_breaks_a_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite looks: told to allow self-trades, the engine fails the cases that forbid them, and only those."""
    suite = copy_bundled_conformance_suite(tmp_path / "suite", suite_version="v2")
    monkeypatch.setattr(tracebook_adapter, "SELF_TRADE", dict.fromkeys(tracebook_adapter.SELF_TRADE, SelfTrade.ALLOW))
    report = run_conformance_suite(suite, tracebook_adapter.ExchangeAdapter)
    failed = {case["name"] for case in report["cases"] if not case["report"]["conformant"]}
    assert failed == {"stp-cancel-resting", "stp-cancel-resting-deep", "stp-cancel-incoming"}
