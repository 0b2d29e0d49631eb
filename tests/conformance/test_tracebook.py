"""tracebook-conformance: its suite v2 whole, and seeded campaigns, each trace in a process of its own."""

import json
import sys
from pathlib import Path

import pytest
from tracebook.conformance import copy_bundled_conformance_suite
from tracebook.conformance.cli import main

from abm.exchange.messages import SelfTrade

ADAPTER = Path(__file__).with_name("tracebook_adapter.py")
CANDIDATE = [
    "--timeout",
    "120",
    "--candidate",
    sys.executable,
    str(ADAPTER),
]  # the first process on a machine compiles the kernels
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


def test_suite_v2_passes_whole(tmp_path: Path) -> None:
    suite = copy_bundled_conformance_suite(tmp_path / "suite", suite_version="v2")
    assert {case.name for case in suite.cases} == CASES
    report = tmp_path / "report.json"
    code = main(["suite", str(suite.root), "--output", str(report), *CANDIDATE])
    content = json.loads(report.read_text())
    assert [case["name"] for case in content["cases"] if not case["report"]["conformant"]] == []
    assert (code, content["conformant_cases"], content["case_count"]) == (0, 9, 9)


@pytest.mark.parametrize(("seed", "profile"), CAMPAIGNS)
def test_seeded_campaign(seed: int, profile: str, tmp_path: Path) -> None:
    options = ["--profile", profile, "--seed", str(seed), "--traces", "1", "--events-per-trace", str(EVENTS)]
    code = main(["campaign", "--output-dir", str(tmp_path / "campaign"), *options, *CANDIDATE])
    content = json.loads((tmp_path / "campaign" / "campaign.json").read_text())
    assert content["failure"] is None
    assert (code, content["completed_traces"], content["generated_events"]) == (0, 1, EVENTS)


def test_suite_finds_an_engine_that_breaks_a_rule(tmp_path: Path) -> None:
    """The suite looks: an engine told to allow self-trades fails the cases that forbid them, and only those."""
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(ADAPTER.parent)!r})\n"
        "import tracebook_adapter as adapter\n"
        f"adapter.SELF_TRADE = dict.fromkeys(adapter.SELF_TRADE, {int(SelfTrade.ALLOW)})\n"
        "sys.exit(adapter.serve_stdio(adapter.ExchangeAdapter))\n"
    )
    suite = copy_bundled_conformance_suite(tmp_path / "suite", suite_version="v2")
    report = tmp_path / "report.json"
    code = main(["suite", str(suite.root), "--output", str(report), *CANDIDATE[:-1], str(broken)])
    content = json.loads(report.read_text())
    failed = {case["name"] for case in content["cases"] if not case["report"]["conformant"]}
    assert failed == {"stp-cancel-resting", "stp-cancel-resting-deep", "stp-cancel-incoming"}
    assert code == 1
