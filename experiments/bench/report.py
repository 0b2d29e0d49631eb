"""What a bench reports: figures beside what is to reach, and whether everyone came to the totals of the tape."""

import os
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version

from rich.console import Console
from rich.table import Table

from experiments.bench.tape import Tape


class WrongTotals(Exception):
    """An engine came to something else than the tape's totals; the message is one line."""


@dataclass(frozen=True)
class Figure:
    """One row: what was timed on what, its median, how many times as fast the exchange is, and what is to reach."""

    what: str
    tape: str
    value: float
    unit: str  # "messages/s", "orders/s", "liquidations/s", "s", "ms", "us", "bytes", "GB", "%" or "times"
    ratio: float | None = None  # of two rates; the caption says which
    reach: str = ""
    reached: bool | None = None


@dataclass
class Report:
    """What came out, on which machine, and what was left out and why."""

    caption: str
    column: str = "tape"
    """Heading of the second column."""
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

    def note_load(self) -> None:
        """Say so where the machine is busy already."""
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        if load > 1.0:
            self.note(
                f"The machine was busy when this began (load {load:.1f}): every figure is lower than it could be."
            )

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "machine": self.machine,
            "figures": [asdict(figure) for figure in self.figures],
            "caption": self.caption,
            "notes": self.notes,
        }

    def show(self) -> None:
        """Print the table."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("", self.column):
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
        console.print(self.caption, highlight=False)
        console.print(self.machine, highlight=False)
        for line in self.notes:
            console.print(line, highlight=False)


def _value(figure: Figure) -> str:
    if figure.unit in ("s", "ms", "us", "GB", "%", "times"):
        return f"{figure.value:,.2f} {figure.unit}"
    if figure.unit == "bytes":
        return f"{figure.value:,.0f} bytes"
    return f"{figure.value / 1e6:.2f} M/s" if figure.value >= 1e5 else f"{figure.value:,.0f} /s"


def check(who: str, made: Tape, totals: dict[str, int]) -> None:
    """Raise `WrongTotals` where somebody's totals are not the tape's."""
    expected = made.expected._asdict()
    wrong = [f"{name} {found}, not {expected[name]}" for name, found in totals.items() if found != expected[name]]
    if wrong:
        raise WrongTotals(f"{who} on the {made.name} tape: {'; '.join(wrong)}")
