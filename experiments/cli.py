"""The command `abm`. Each command loads what it needs when it is called, so that `abm --help` is quick.

Bad input is answered with one line and exit status 2, an interrupt with status 130, a run that breaks its own laws with status 1.
"""

import functools
import json as json_format
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.ablate import ablate
from experiments.app.serve import app as app_command
from experiments.attribute import attribute
from experiments.bench import app as bench
from experiments.calibrate import calibrate
from experiments.chain import chain, network
from experiments.compare import compare as compare_command
from experiments.export import export
from experiments.forecast import forecast
from experiments.phase import phase
from experiments.progress import progress, say
from experiments.report import report
from experiments.reproduce import reproduce
from experiments.sensitivity import sensitivity
from experiments.stylised import stylised
from experiments.sweep import sweep
from experiments.tables import print_rows

if TYPE_CHECKING:
    from abm.record import Result
    from abm.scenario import Scenario
    from analysis.compare import Row

app = typer.Typer(
    name="abm",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        help="Say on stderr what is read, kept and waited for; twice: in detail.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


class Wrong(Exception):
    """A run that broke one of its own laws; the text is one line."""


def _answers[**P](command: Callable[P, None]) -> Callable[P, None]:
    """Turn what can go wrong into one line and an exit status."""

    @functools.wraps(command)
    def answer(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt as stop:  # whoever keeps something says so
            say(f"interrupted: {stop.args[0] if stop.args else 'nothing was kept'}")
            raise typer.Exit(130) from None
        except Wrong as wrong:
            say(str(wrong))
            raise typer.Exit(1) from None
        except BrokenPipeError:  # the reader of our output has gone; whoever flushes at exit must not meet it
            sys.stdout = None  # type: ignore[assignment]
            raise typer.Exit(0) from None
        except OSError as error:
            say(_about_disk(error))
            raise typer.Exit(2) from None
        except ValueError as error:
            from abm.record import DamagedRun
            from abm.scenario import ScenarioError

            if not isinstance(error, (ScenarioError, DamagedRun)):
                raise
            say(str(error))
            raise typer.Exit(2) from None

    return answer


def _about_disk(error: OSError) -> str:
    import errno

    if isinstance(error, FileExistsError) and error.strerror is None:
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    what = error.strerror or str(error)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return f"{where}{what}; nothing was kept. {'Free some space, or choose' if full else 'Choose'} another place with --out"


@app.callback()
def main(verbose: Verbose = 0) -> None:
    """Agent-based market simulator: one exchange, many kinds of traders, and how a fall becomes a cascade."""
    from experiments.logs import listen

    listen(verbose)


# ------------------------------------------------------------------------------------------------------------------ run


@app.command()
@_answers
def run(
    scenario: Annotated[
        str, typer.Argument(help="Name of a scenario (abm list), or path of a YAML file.", show_default=False)
    ],
    seed: Annotated[int | None, typer.Option(help="Seed, instead of the scenario's.", show_default=False)] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change a value (abm schema); may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder to make.", show_default="runs/<scenario>-seed<seed>-<time>")
    ] = None,
    check_determinism: Annotated[
        bool, typer.Option("--check-determinism", help="Run twice, and fail unless both event logs have the same hash.")
    ] = False,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Run a scenario, keep what happened in a run folder, and hold it against what was observed."""
    from abm.scenario import assignment, load_with

    changes = [assignment(text) for text in set_ or []]
    if seed is not None:
        changes.append({"seed": seed})
    chosen = load_with(scenario, changes)

    from analysis.compare import compare, premiums
    from experiments import rundir

    started = datetime.now(UTC)
    place = out if out is not None else rundir.default_place(chosen.name, chosen.seed, started)
    rundir.check(place)
    silent = quiet or json
    result = _play(chosen, chosen.name, silent)
    rows = [row for row in compare(result) if row.runs]  # what the run covers
    figures = rundir.save(result, place, started)
    second = _play(chosen, f"{chosen.name}, second run", silent) if check_determinism else None
    equal = second is None or second.summary["event_log_hash"] == result.summary["event_log_hash"]
    if json:
        content = {
            "folder": str(place),
            "figures": [str(figure) for figure in figures],
            "summary": result.summary,
            "audit": result.audit.to_dict(),
            "comparison": [row.to_dict() for row in rows],
            "premiums": premiums(result),
        }
        typer.echo(json_format.dumps(content | ({} if second is None else {"deterministic": equal}), indent=2))
    elif not quiet:
        _show(result, rows, chosen)
        typer.echo(f"run folder    {place}   (figures: {', '.join(figure.name for figure in figures)})")
        typer.echo(f"event log     {result.summary['event_log_hash']}")
        if second is not None and equal:
            typer.echo(f"second run    {second.summary['event_log_hash']}   equal: the run is deterministic")
        typer.echo(f"time          {(datetime.now(UTC) - started).total_seconds():.1f} s")
    if second is not None and not equal:
        hashes = f"{result.summary['event_log_hash']} and {second.summary['event_log_hash']}"
        raise Wrong(
            f"{chosen.name}: not deterministic: the event logs of two runs with seed {chosen.seed} have the hashes {hashes}"
        )
    if not result.audit.passed:
        raise Wrong(f"{chosen.name}: the audit failed: {'; '.join(result.audit.faults)} (see {place / 'summary.json'})")


def _play(scenario: "Scenario", label: str, silent: bool) -> "Result":
    import abm

    with progress(label, silent) as advance:
        return abm.run(scenario, advance)


def _show(result: "Result", rows: list["Row"], scenario: "Scenario") -> None:
    from rich.console import Console

    from analysis.compare import premiums, strayed
    from analysis.wording import strayed_text
    from experiments.compare import show_rows

    console = Console(highlight=False)
    if rows:
        show_rows(console, rows)
    if scenario.caveat:
        console.print(scenario.caveat, soft_wrap=True)
    console.print()
    widest = premiums(result)
    for name, about in result.summary["instruments"].items():
        if "volume" not in about:
            continue
        console.print(
            f"{name}: {about['open']:,.2f} -> {about['close']:,.2f} ({about['return']:+.2%}), low {about['low']:,.2f}, "
            f"high {about['high']:,.2f}; volume {about['volume']:,.0f} in {about['trades']:,} trades; median spread "
            f"{about['median_spread_bps']:.2f} bp, depth {about['median_bid_depth'] / 1e6:.1f} / {about['median_ask_depth'] / 1e6:.1f} "
            f"million bid / offered{f'; widest premium {widest[name]:+.2%}' if name in widest else ''}",
            soft_wrap=True,
        )
    if far := strayed_text(strayed(widest)):
        console.print(f"[bold]{far}[/]", soft_wrap=True)
    audit = result.audit
    console.print(
        f"audit: {'passed' if audit.passed else 'FAILED'}, residue {audit.residue} "
        f"({result.summary['messages']:,} messages, rejected: {result.summary['rejects'] or 'none'})",
        soft_wrap=True,
    )


# ----------------------------------------------------------------------------------------------------------- list, schema


@app.command("list")
@_answers
def list_(json: Json = False) -> None:
    """The scenarios that are kept, and the kinds of traders."""
    from abm.agents import kinds
    from abm.scenario import ScenarioError, load, scenario_files

    scenarios: list[dict[str, Any]] = []
    for name in scenario_files():
        try:
            kept = load(name)
        except ScenarioError as error:  # one that is broken must not hide the others
            scenarios.append({"name": name, "description": f"cannot be used: {error}"})
            continue
        scenarios.append(
            {
                "name": name,
                "description": kept.description,
                "start": kept.clock.start.isoformat(),
                "end": kept.clock.end.isoformat(),
                "steps": kept.clock.steps,
                "traders": list(kept.traders),
                "links": list(kept.links),
            }
        )
    traders = [{"kind": kind, "description": _first_line(cls.__doc__)} for kind, cls in kinds().items()]
    if json:
        typer.echo(json_format.dumps({"scenarios": scenarios, "traders": traders}, indent=2))
        return
    print_rows([(s["name"], s["description"]) for s in scenarios], ("scenario", ""))
    typer.echo()
    print_rows([(t["kind"], t["description"]) for t in traders], ("kind of trader", ""))


@app.command()
@_answers
def schema(
    section: Annotated[
        str, typer.Argument(help="Section, such as clock, instruments, traders, traders.noise.", show_default=False)
    ] = "",
    json: Json = False,
) -> None:
    """The keys of a scenario, with their units, defaults and bounds."""
    from experiments.schema import describe

    title, rows = describe(section)
    if json:
        typer.echo(
            json_format.dumps({"section": section, "about": title, "keys": [row.__dict__ for row in rows]}, indent=2)
        )
        return
    typer.echo(title)
    print_rows([(r.key, r.default, r.about) for r in rows], ("key", "default", "meaning"))


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0] if text else ""


# ----------------------------------------------------------------------------------------------------- what others bring

app.add_typer(bench, name="bench")
app.command()(_answers(reproduce))
app.command()(_answers(stylised))
app.command("compare")(_answers(compare_command))
app.command()(_answers(attribute))
app.command()(_answers(ablate))
app.command()(_answers(forecast))
app.command()(_answers(calibrate))
app.command()(_answers(sweep))
app.command()(_answers(sensitivity))
app.command()(_answers(phase))
app.command()(_answers(chain))
app.command()(_answers(network))
app.command()(_answers(report))
app.command()(_answers(export))
app.command("app")(_answers(app_command))


@app.command(
    "replay",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
    no_args_is_help=False,
)
@_answers
def replay(context: typer.Context) -> None:
    """Feed real order-book messages through the exchange, and compare its book with the venue's."""
    from experiments.replay import app as commands

    commands(args=list(context.args), prog_name="abm replay")


if __name__ == "__main__":
    app()
