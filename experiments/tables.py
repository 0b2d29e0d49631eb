"""Tables in the terminal."""

from collections.abc import Sequence
from typing import Any


def print_rows(rows: Sequence[tuple[Any, ...]], titles: tuple[str, ...]) -> None:
    """Print rows below their titles; the first column keeps its width."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, title in enumerate(titles):
        table.add_column(title, overflow="fold", no_wrap=position == 0)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    Console(highlight=False).print(table)
