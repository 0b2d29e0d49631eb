"""Tables in the terminal, and where tables and pictures may go."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table

PICTURES = (".png", ".svg", ".pdf")


def check_file(path: Path | None, endings: Sequence[str]) -> None:
    """Find out before the work whether a file can be written where it was asked for, if it was.

    Raises:
        ScenarioError: It has another ending, or its folder is not there.
    """
    from abm.scenario import ScenarioError

    if path is None:
        return
    if path.suffix not in endings:
        raise ScenarioError(f"{path}: must end with {' or '.join(endings)}")
    if not path.parent.is_dir():
        raise ScenarioError(f"{path}: there is no folder {path.parent}; make it first")


def write_files(csv: Path | None, table: "pd.DataFrame", figure: Path | None, draw: Callable[[], "Figure"]) -> None:
    """Write a table and draw a picture, each if it was asked for."""
    if csv is not None:
        table.to_csv(csv, index=False)
    if figure is not None:
        draw().savefig(figure, dpi=150)


def print_files(*paths: Path | None) -> None:
    """Say where files are that were asked for."""
    for path in paths:
        if path is not None:
            print(path)


def print_rows(rows: Sequence[tuple[Any, ...]], titles: tuple[str, ...], *, whole: bool = False) -> None:
    """Print rows below their titles; the first column keeps its width, or all do, and a narrower terminal breaks lines."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, title in enumerate(titles):
        table.add_column(title, overflow="fold", no_wrap=position == 0)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console(highlight=False)
    if whole:
        print_whole(console, table)
    else:
        console.print(table)


def print_whole(console: "Console", table: "Table") -> None:
    """Print a table with nothing cut off or folded: a narrower terminal breaks its lines."""
    from rich.measure import Measurement

    console.width = max(console.width, Measurement.get(console, console.options.update(max_width=1000), table).maximum)
    console.print(table)
