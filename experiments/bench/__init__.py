"""`abm bench`: how fast the exchange is, beside a C++ book and other packages, in one run."""

import json as json_format
import sys
from enum import StrEnum
from typing import Annotated

import typer


class Tapes(StrEnum):
    """Which tapes to time."""

    STANDARD = "standard"
    DEEP = "deep"
    BOTH = "both"


def bench(
    tape: Annotated[Tapes, typer.Option(help="A thousand orders alive, or a hundred thousand.")] = Tapes.BOTH,
    repeat: Annotated[int, typer.Option(min=1, help="Passes of each engine, taken in turn; medians are shown.")] = 9,
    peers: Annotated[
        bool, typer.Option("--peers", help="Other packages too (make bench-peers installs them).")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time the exchange. Fails where any engine's volume, trades or book at the end are not those of the tape."""
    from experiments.bench.measure import WrongTotals, measure  # compiles kernels: only when asked for

    names = [str(each) for each in (Tapes.STANDARD, Tapes.DEEP) if tape in (each, Tapes.BOTH)]
    try:
        report = measure(names, repeat, peers)
    except WrongTotals as wrong:
        print(f"the bench fails: {wrong}", file=sys.stderr)
        raise typer.Exit(1) from wrong
    if json:
        print(json_format.dumps(report.as_dict(), indent=2))
    else:
        report.show()
