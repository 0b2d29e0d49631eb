"""The bench of whole runs: a million accounts with their traders, what each of them takes, and an FCN market beside PAMS."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table

import abm
from abm.scenario import Scenario
from experiments.bench.crowd import SCENARIO, Played, Stopwatch, play_alone
from experiments.bench.peers import PEERS, PeerFailed
from experiments.bench.peers import play as play_peer
from experiments.bench.report import Figure, Report, WrongTotals

INTENSITIES: Mapping[str, Mapping[str, Any]] = {
    "demo": {"traders": {"noise": {"orders_per_second": 3}, "noise_perp": {"orders_per_second": 3}}},
    "venue": {},
}
"""How often noise traders send orders, whose volume a day stays: as in spot, and as in the scenario, which says what real books see."""

EVENT = 172_800.0
"""Seconds of market time in the 48 hours of the event."""

REACH_RATE = 1e6
REACH_EVENT = 30.0
REACH_MEMORY = 2e9
REACH_OF_PAMS = 50.0

AGENTS = 1_000
PACES: Mapping[str, tuple[float, int]] = {"one a step": (AGENTS, 2_100), "all each step": (1.0, 300)}
"""Steps (seconds) between two orders of an account, and steps in all. PAMS does the first, of as many steps."""


@dataclass
class CrowdReport(Report):
    """Figures, and by intensity what each trader and each part of the market took."""

    runs: dict[str, Played] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """For JSON; `us` and `messages` are those of a step."""
        return super().as_dict() | {
            "costs": [
                {
                    "intensity": name,
                    "who": cost.who,
                    "kind": cost.kind,
                    "accounts": cost.accounts,
                    "us": cost.seconds / run.steps * 1e6,
                    "messages": cost.messages / run.steps,
                }
                for name, run in self.runs.items()
                for cost in run.costs
            ]
        }

    def show(self) -> None:
        """Print what each takes in a step, and then the figures."""
        table = Table(box=None, padding=(0, 2, 0, 0), title="In a step, on average", title_justify="left")
        table.add_column("", no_wrap=True)
        for column in ("accounts", *(head for name in self.runs for head in (f"{name}: us", "messages"))):
            table.add_column(column, justify="right", no_wrap=True)
        for costs in zip(*(run.costs for run in self.runs.values()), strict=True):
            who, kind, accounts = costs[0][:3]
            row = [who if kind in ("", who) else f"{who} ({kind})", f"{accounts:,}" if kind else ""]
            for run, cost in zip(self.runs.values(), costs, strict=True):
                row.append(f"{cost.seconds / run.steps * 1e6:,.1f}")
                row.append(f"{cost.messages / run.steps:,.1f}" if kind else "")
            table.add_row(*row)
        Console().print(table)
        super().show()


def measure(repeat: int, hours: float) -> CrowdReport:
    """Time the event's population at each intensity, `repeat` runs each, in turn, and the FCN market beside PAMS.

    Args:
        repeat: Runs of each.
        hours: Market time of each run of the population, to the minute.

    Raises:
        WrongTotals: where an audit fails, or two equal runs differ.
    """
    report = CrowdReport(
        "Crowd: the run of median time; its messages a second or its 48 h are to reach the goal. fcn and PAMS: medians. Ratio: to PAMS.",
        column="orders",
    )
    report.note_load()
    _crowd(report, repeat, hours)
    _beside_pams(report, repeat)
    return report


# ---------------------------------------------------------------------------------------------------------- the crowd


def _crowd(report: CrowdReport, repeat: int, hours: float) -> None:
    end = abm.load(SCENARIO).clock.start + timedelta(minutes=round(60 * hours))
    taken: dict[str, list[Played]] = {name: [] for name in INTENSITIES}
    for _ in range(repeat):
        for name, changes in INTENSITIES.items():
            taken[name].append(play_alone({**changes, "clock": {"end": end.isoformat()}}))
    for name, runs in taken.items():
        report.runs[name] = _of_median_time(name, runs)
        _tell(report, name, report.runs[name])
    any_run = next(iter(report.runs.values()))
    traders = [cost for cost in any_run.costs if cost.kind]
    report.note(
        f"Crowd: {sum(cost.accounts for cost in traders):,} accounts, {len({cost.kind for cost in traders})} kinds of traders, "
        f"{any_run.instruments} instruments, {any_run.steps:,} steps of {any_run.step:g} s. Noise traders send 3 orders a second to each book "
        "(demo), or what the scenario says (venue). A message is an order or a cancellation that a trader sent."
    )
    if hours < EVENT / 3600:
        report.note(
            "48 h: at the pace of this run, with its setting up. Hours in which more happens take longer, and what is kept of them "
            "takes memory: --hours 48 plays them all."
        )


def _of_median_time(name: str, runs: list[Played]) -> Played:
    faults = sorted({fault for run in runs for fault in run.faults})
    if faults:
        raise WrongTotals(f"the crowd, {name}: the audit failed: {'; '.join(faults)}")
    if len({run.event_log for run in runs}) > 1:
        raise WrongTotals(f"the crowd, {name}: two runs with one seed have different event logs")
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def _tell(report: Report, name: str, run: Played) -> None:
    times = EVENT / (run.steps * run.step)
    rate, event = run.messages / run.seconds, run.set_up + run.seconds * times
    enough = rate >= REACH_RATE or event < REACH_EVENT
    report.figures += [
        Figure("crowd, whole step", name, rate, "messages/s", None, f"{REACH_RATE / 1e6:.2f} M/s, or", enough),
        Figure("crowd, 48 h", name, event, "s", None, f"< {REACH_EVENT:.0f} s", enough),
        Figure("crowd, a step", name, run.seconds / run.steps * 1e6, "us"),
        Figure("crowd, setting up", name, run.set_up, "s"),
    ]
    if run.peak < 0:
        report.note("Memory of the process left out: this system does not tell")
        return
    reach = f"< {REACH_MEMORY / 1e9:.0f} GB"
    report.figures.append(
        Figure("crowd, peak memory", name, run.peak / 1e9, "GB", None, reach, run.peak < REACH_MEMORY)
    )


# ----------------------------------------------------------------------------------------------------------- FCN, PAMS


def fcn_market(every: float, steps: int, seed: int) -> Scenario:
    """The market of `peers/play_pams.py`: instrument, agents and their parameters are the same.

    What differs: trading is continuous from the start, where PAMS first collects 100 orders without matching. With one order a step that
    is the mean of a binomial number, where PAMS takes exactly one agent. Windows need not be whole. Orders reach the exchange some
    milliseconds after they are sent; there they need the cash or the shares that they promise, which PAMS does not ask for.

    Args:
        every: Steps between two orders of an account; 1: all of them in each step.
        steps: Length of the run.
        seed: Seed.
    """
    start = datetime(2026, 1, 1, tzinfo=UTC)
    agents = {
        "instrument": "market",
        "accounts": AGENTS,
        "every": every,
        "fundamental": 1.0,
        "chart": 0.0,
        "noise": 1.0,
        "noise_scale": 0.001,
        "window": [100, 200],
        "reversion": [50, 100],
        "margin": [0.0, 0.1],
        "size": 1,
        "cash": 10_000,
        "coins": 50,
    }
    return Scenario.model_validate(
        {
            "name": "fcn",
            "seed": seed,
            "clock": {"start": start, "end": start + timedelta(seconds=steps), "step": 1.0},
            "instruments": {"market": {"tick": 0.00001, "lot": 1, "max_price": 1_000, "reference_price": 300}},
            "traders": {"fcn": agents},
        }
    )


def orders_a_second(scenario: Scenario) -> float:
    """Orders that its one population sends, a second of wall time.

    Raises:
        WrongTotals: where the audit fails.
    """
    market = abm.Market(scenario)
    sent = Stopwatch(market.populations[0], "orders")
    start = perf_counter()
    market.run_for(scenario.clock.steps)
    seconds = perf_counter() - start
    audit = market.result().audit
    if not audit.passed:
        raise WrongTotals(f"the FCN market: the audit failed: {'; '.join(audit.faults)}")
    return sent.messages / seconds


def _beside_pams(report: Report, repeat: int) -> None:
    """Both paces to PAMS at its own, at which it is fastest."""
    pams = next(peer for peer in PEERS if peer.package == "pams")
    what, theirs = f"{pams.package} {pams.version}", None
    try:
        done = play_peer(pams, None, repeat)
        theirs = done.messages / median(done.seconds)
    except PeerFailed as reason:
        report.note(f"{what} left out: {reason}")
    for pace, (every, steps) in PACES.items():
        # The first run fills caches.
        rates = [orders_a_second(fcn_market(every, steps, seed)) for seed in range(repeat + 1)]
        rate = median(rates[1:])
        ratio = None if theirs is None else rate / theirs
        reach, reached = ("", None) if ratio is None else (f"{REACH_OF_PAMS:.0f}", ratio >= REACH_OF_PAMS)
        report.figures.append(Figure(f"fcn, {AGENTS:,} accounts", pace, rate, "orders/s", ratio, reach, reached))
    if theirs is not None:
        report.figures.append(Figure(what, "one a step", theirs, "orders/s"))
        report.note(
            f"{what}: the same {AGENTS:,} agents and parameters; experiments/bench/whole_runs.py says what differs."
        )
