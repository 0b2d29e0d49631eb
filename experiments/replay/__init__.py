"""`abm replay`: real order-book messages through the exchange, held against the venue's own book."""

import dataclasses
import json
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from abm.lobster.files import DamagedFile, read_pair
from abm.lobster.tape import Execution
from experiments.replay.lobster import LobsterReport, replay_lobster

__all__ = ["DamagedFile", "LobsterReport", "app", "replay_lobster"]

app = typer.Typer(help="Replay real order-book messages and compare books.", no_args_is_help=True, add_completion=False)


@app.callback()
def _replay() -> None:
    """Replay real order-book messages and compare books."""


@app.command("lobster")
def _lobster(
    messages: Annotated[Path, typer.Argument(help="LOBSTER message file, csv or csv.gz.", show_default=False)],
    book: Annotated[
        Path, typer.Option(help="LOBSTER order-book file of the same rows, csv or csv.gz.", show_default=False)
    ],
    levels: Annotated[
        int | None, typer.Option(min=1, help="Levels of each side to compare.", show_default="all of the book")
    ] = None,
    tick: Annotated[str, typer.Option(help="Tick in dollars.")] = "0.01",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Feed LOBSTER messages through the exchange and compare its book with the file after each one.

    Exit status: 0 all that is known agrees, 1 something differs, 2 a file cannot be replayed.
    """
    started = time.perf_counter()
    step = _step(tick)
    if step is None:
        typer.echo(f"--tick {tick}: not a whole number of 0.0001 dollars; most shares have 0.01", err=True)
        raise typer.Exit(2)
    try:
        report = _replayed(messages, book, levels, step)
    except DamagedFile as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    seconds = time.perf_counter() - started
    if as_json:
        content = dataclasses.asdict(report) | {
            "holds": report.holds,
            "command_s": seconds,
            "rows_per_second": report.rows / seconds,
        }
        typer.echo(json.dumps(content, indent=2))
    else:
        _print(report, seconds)
    raise typer.Exit(0 if report.holds else 1)


def _step(tick: str) -> Decimal | None:
    try:
        step = Decimal(tick)
    except InvalidOperation:
        return None
    return step if step.is_finite() and step > 0 and not step % Decimal("0.0001") else None


def _replayed(messages: Path, book: Path, levels: int | None, tick: Decimal) -> LobsterReport:
    sent, states = read_pair(messages, book, tick)
    if levels is not None and levels > states.levels:
        raise DamagedFile(
            book, 1, f"{states.levels} level{'s' if states.levels > 1 else ''}, {levels} asked for with --levels"
        )
    return replay_lobster(sent, states, levels or states.levels, tick)


def _print(report: LobsterReport, seconds: float) -> None:
    table = Table(
        show_header=False,
        title=f"{report.rows:,} messages, {report.levels} level{'s' if report.levels > 1 else ''} of each side",
    )
    table.add_column("", overflow="fold")
    table.add_column("", justify="right")
    table.add_column("", overflow="fold")

    def add(name: str, number: int, rows: list[int] | None = None) -> None:
        table.add_row(name, f"{number:,}", _rows(rows) if rows else "")

    for name, number in report.messages.items():
        if number:
            add(name.replace("_", " "), number)
    table.add_section()
    for name, number in report.executions.items():
        if number or name == Execution.NAMED:
            add(f"execution {name}", number, report.out_of_turn.get(name))
    add("executions that hit the wrong order", len(report.wrong_maker), report.wrong_maker)
    add("trades without an execution", report.strays)
    add("messages rejected", report.rejected)
    table.add_section()
    add("levels adopted as they came into view", report.adopted_levels)
    add("shares adopted", report.adopted_shares)
    add("levels forgotten as they fell out of view", report.forgotten_levels)
    add("messages beyond the levels of the book", report.unseen)
    add("messages the book file contradicts", len(report.unexplained), report.unexplained)
    table.add_section()
    add("levels compared, queue known", report.levels_known)
    add("  that differ", report.mismatches_known)
    add("levels compared, adopted shares in them", report.levels_unknown)
    add("  that differ", report.mismatches_unknown)
    table.add_section()
    table.add_row("one pass and a pass for each message agree", "yes" if report.same_in_one_pass else "no", "")
    table.add_row(
        "engine, one pass",
        f"{report.sent / report.one_pass_s:,.0f}/s",
        f"{report.sent:,} messages sent, {report.one_pass_s:.3f} s",
    )
    table.add_row(
        "engine, a pass for each message",
        f"{report.rows / report.single_passes_s:,.0f}/s",
        f"book read after each, {report.single_passes_s:.2f} s",
    )
    table.add_row("whole command", f"{report.rows / seconds:,.0f}/s", f"{seconds:.2f} s")
    console = Console()
    console.print(table)
    for difference in report.first:
        console.print(
            f"row {difference.row}, {difference.side} level {difference.level}: "
            f"engine {difference.engine[1]} at {difference.engine[0]} ticks, "
            f"file {difference.file[1]} at {difference.file[0]} ticks"
        )


def _rows(rows: list[int]) -> str:
    return "rows " + ", ".join(str(row) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
