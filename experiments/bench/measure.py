"""The measurement: who runs on what, in turn, and the table of what came out."""

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from statistics import median

from rich.console import Console
from rich.table import Table

from experiments.bench import engine, tape
from experiments.bench.peers import PEERS, Peer, PeerFailed
from experiments.bench.peers import play as play_peer
from experiments.bench.reference import NoCompiler, ReferenceBook
from experiments.bench.tape import Pass, Tape

REACH_OF_REFERENCE = 0.4
REACH_IN_BATCHES = 1e6
REACH_COLD = 20.0
REACH_WARM = 1.5


class WrongTotals(Exception):
    """An engine came to something else than the tape's totals; the message is one line."""


@dataclass(frozen=True)
class Figure:
    """One row: what was timed on what, its median, how many times as fast the exchange is, and what is to reach."""

    what: str
    tape: str
    value: float
    unit: str  # "messages/s", "orders/s" or "s"
    ratio: float | None = None  # rate of the exchange in one pass / this rate
    reach: str = ""
    reached: bool | None = None


@dataclass
class Report:
    """What came out, on which machine, and what was left out and why."""

    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def machine(self) -> str:
        """The machine and the versions that matter."""
        return (
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
            f"numba {version('numba')}, numpy {version('numpy')}"
        )

    def note(self, line: str) -> None:
        """Add a line below the table, once."""
        if line not in self.notes:
            self.notes.append(line)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"machine": self.machine, "figures": [asdict(figure) for figure in self.figures], "notes": self.notes}

    def show(self) -> None:
        """Print the table."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("", "tape"):
            table.add_column(column, no_wrap=True)
        for column in ("median", "ratio", "to reach"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for figure in self.figures:
            table.add_row(
                figure.what,
                figure.tape,
                _value(figure),
                ""
                if figure.ratio is None
                else f"{figure.ratio:,.2f}"
                if figure.ratio < 100
                else f"{figure.ratio:,.0f}",
                figure.reach,
                {True: "reached", False: "[bold]missed[/bold]", None: ""}[figure.reached],
            )
        console = Console()
        console.print(table)
        console.print("Medians. Ratio: the exchange in one pass to this row, on the same tape.", highlight=False)
        console.print(self.machine, highlight=False)
        for line in self.notes:
            console.print(line, highlight=False)


def _value(figure: Figure) -> str:
    if figure.unit == "s":
        return f"{figure.value:.2f} s"
    return f"{figure.value / 1e6:.2f} M/s" if figure.value >= 1e5 else f"{figure.value:,.0f} /s"


def measure(names: Sequence[str], repeat: int, peers: bool) -> Report:
    """Time the exchange on the tapes of these names, `repeat` passes each, in turn with the C++ reference.

    Raises:
        WrongTotals: where volume, trades or the book at the end are not the tape's.
    """
    report = Report()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 1.0:
        report.note(f"The machine was busy when this began (load {load:.1f}): every figure is lower than it could be.")
    for name in names:
        made = tape.make(name)
        rate = _in_turn(report, made, repeat)
        if peers:
            for peer in PEERS:
                if not (peer.simulator and name != names[0]):
                    _beside(report, peer, made, rate, repeat)
    _in_batches(report, tape.make(names[0]), repeat)
    cold, warm = engine.time_start(min(repeat, 3))
    report.figures += [
        Figure("cold start: compile all", "", cold, "s", None, "< 20 s", cold < REACH_COLD),
        Figure("warm start: import, match", "", warm, "s", None, "< 1.5 s", warm < REACH_WARM),
    ]
    return report


def _in_turn(report: Report, made: Tape, repeat: int) -> float:
    """Our pass and the reference's, one after the other, `repeat` times. Gives our messages a second."""
    messages = made.messages()
    ours: list[Pass] = []
    reference: list[Pass] = []
    with _reference(report, made) as book:
        for turn in range(repeat + 1):
            passes = [(ours, engine.play(messages), "the exchange")]
            if book is not None:
                passes.append((reference, book.play(), "the C++ reference"))
            for taken, done, who in passes:
                _check(who, made, done.totals._asdict())
                if turn > 0:  # the first turn fills caches
                    taken.append(done)
    rate = len(messages) / median(done.seconds for done in ours)
    report.figures.append(Figure("exchange, one pass", made.name, rate, "messages/s"))
    if reference:
        bound = len(messages) / median(done.seconds for done in reference)
        ratio = median(theirs.seconds / own.seconds for own, theirs in zip(ours, reference, strict=True))
        reach = f"{REACH_OF_REFERENCE:.2f}"
        report.figures.append(
            Figure("C++ reference", made.name, bound, "messages/s", ratio, reach, ratio >= REACH_OF_REFERENCE)
        )
    return rate


@contextmanager
def _reference(report: Report, made: Tape) -> Iterator[ReferenceBook | None]:
    try:
        book = ReferenceBook(made)
    except NoCompiler as reason:
        report.note(f"C++ reference on the {made.name} tape left out: {reason}")
        yield None
    else:
        with book:
            yield book


def _in_batches(report: Report, made: Tape, repeat: int) -> None:
    messages = made.messages()
    engine.play_in_batches(messages[: 10 * engine.BATCH])
    rate = len(messages) / median(engine.play_in_batches(messages) for _ in range(min(repeat, 3)))
    what = f"OrderBook, batches of {engine.BATCH}"
    report.figures.append(Figure(what, made.name, rate, "messages/s", None, "1.00 M/s", rate >= REACH_IN_BATCHES))


def _beside(report: Report, peer: Peer, made: Tape, ours: float, repeat: int) -> None:
    """A peer on the tape (a simulator: on its own agents), and how many times as fast our pass is."""
    what = f"{peer.package} {peer.version}"
    try:
        done = play_peer(peer, made, min(repeat, 3))
    except PeerFailed as reason:
        report.note(f"{what} left out: {reason}")
        return
    _check(peer.package, made, done.totals)
    rate = done.messages / median(done.seconds)
    if peer.simulator:
        report.note(f"{what} is a whole simulator: orders of 1 000 agents, with the agents; ours is the exchange alone")
        report.figures.append(Figure(what, "its own", rate, "orders/s", ours / rate))
    else:
        report.figures.append(Figure(what, made.name, rate, "messages/s", ours / rate))


def _check(who: str, made: Tape, totals: dict[str, int]) -> None:
    expected = made.expected._asdict()
    wrong = [f"{name} {found}, not {expected[name]}" for name, found in totals.items() if found != expected[name]]
    if wrong:
        raise WrongTotals(f"{who} on the {made.name} tape: {'; '.join(wrong)}")
