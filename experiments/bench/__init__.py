"""`abm bench`: how fast the exchange is, beside a C++ book and others.

`clearing`: accounts; `traders`: whole runs; `contagion`: many markets; `gym`: environments; `sweep`: many runs.
"""

import json as json_format
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.progress import say

if TYPE_CHECKING:
    from experiments.bench.report import Report

app = typer.Typer(invoke_without_command=True)

Repeat = Annotated[int, typer.Option(min=1, help="Passes of each engine, taken in turn.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class Tapes(StrEnum):
    """Which tapes to time."""

    STANDARD = "standard"
    DEEP = "deep"
    BOTH = "both"


@app.callback()
def bench(
    context: typer.Context,
    tape: Annotated[Tapes, typer.Option(help="A thousand orders alive, or a hundred thousand.")] = Tapes.BOTH,
    repeat: Repeat = 9,
    peers: Annotated[
        bool, typer.Option("--peers", help="Other packages too (make bench-peers installs them).")
    ] = False,
    json: Json = False,
) -> None:
    """Time the exchange. Fails where any engine's volume, trades or book at the end are not those of the tape."""
    if context.invoked_subcommand is not None:
        if (tape, repeat, peers, json) != (Tapes.BOTH, 9, False, False):
            raise typer.BadParameter(f"options of abm bench {context.invoked_subcommand} stand behind its name")
        return
    from experiments.bench.measure import measure  # compiles kernels: only when asked for

    names = [str(each) for each in (Tapes.STANDARD, Tapes.DEEP) if tape in (each, Tapes.BOTH)]
    _answer(lambda: measure(names, repeat, peers), json)


@app.command()
def clearing(repeat: Repeat = 15, json: Json = False) -> None:
    """Time the exchange with accounts: margin checked, positions settled, liquidation prices kept, liquidations, funding, memory."""
    from experiments.bench.clearing_house import measure

    _answer(lambda: measure(repeat), json)


@app.command()
def traders(
    repeat: Repeat = 3,
    hours: Annotated[
        float,
        typer.Option(min=0.1, max=48, help="Market time of a run with a million accounts; 48 is the whole event."),
    ] = 1.0,
    json: Json = False,
) -> None:
    """Time whole runs: a million accounts and their traders, what each kind takes, memory; an FCN market beside PAMS (make bench-peers)."""
    from experiments.bench.whole_runs import measure

    _answer(lambda: measure(repeat, hours), json)


@app.command()
def contagion(
    repeat: Repeat = 3,
    hours: Annotated[float, typer.Option(min=0.1, max=48, help="Market time of a run of one asset, and of all.")] = 1.0,
    json: Json = False,
) -> None:
    """Time the contagion layer: spreading over 200 assets and 2 000 holders, and what other markets cost beside their messages."""
    from experiments.bench.contagion import measure

    _answer(lambda: measure(repeat, hours), json)


@app.command()
def gym(
    repeat: Repeat = 5,
    scenario: Annotated[str, typer.Option(help="In which the environments are.")] = "first-hour",
    json: Json = False,
) -> None:
    """Time the environments: decisions a second, beside the same market without agents, and what a reset takes."""
    try:
        from experiments.bench.gym import measure
    except ModuleNotFoundError as missing:  # the extra
        say(str(missing))
        raise typer.Exit(2) from None

    _answer(lambda: measure(repeat, scenario), json)


@app.command()
def sweep(
    runs: Annotated[int, typer.Option(min=1, help="How many, each way.")] = 200,
    minutes: Annotated[int, typer.Option(min=1, max=59, help="Market time of each.")] = 30,
    json: Json = False,
) -> None:
    """Time many short runs: what a run of a sweep takes beside itself, and what a second worker brings."""
    from experiments.bench.sweep import measure

    _answer(lambda: measure(runs, minutes), json)


def _answer(measure: "Callable[[], Report]", json: bool) -> None:
    from abm.scenario import ScenarioError
    from experiments.bench.report import WrongTotals

    try:
        report = measure()
    except WrongTotals as wrong:
        print(f"the bench fails: {wrong}", file=sys.stderr)
        raise typer.Exit(1) from wrong
    except ScenarioError as wrong:
        say(str(wrong))
        raise typer.Exit(2) from None
    if json:
        print(json_format.dumps(report.as_dict(), indent=2))
    else:
        report.show()
