"""`abm forecast`: how likely a price reaches a level by a day, from continuations of one run that branch off at one moment."""

import json as json_format
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.options import DryRun, Json, Scheduler, Set, Store, Workers, announce, changed, moment
from experiments.tables import PICTURES, check_file, print_rows

if TYPE_CHECKING:
    import pandas as pd

    from abm.scenario import Scenario
    from analysis.forecast import Level, Paths

MEASURE = "analysis.forecast:hours"
FURTHEST = timedelta(days=366)
"""Beyond this nothing that a market of hours or days says is worth a number."""
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Question:
    """What is asked, of which market, from when to when."""

    scenario: "Scenario"
    """As it is played, with the branch of the first member."""
    instrument: str
    levels: tuple["Level", ...]
    at: datetime
    until: datetime
    block: timedelta

    @property
    def played_until(self) -> datetime:
        """The end of what is played."""
        return self.scenario.clock.end

    @property
    def resampled(self) -> int:
        """Hours to be resampled."""
        return round((self.until - self.played_until) / _HOUR)


def forecast(
    scenario: Annotated[
        str, typer.Argument(help="Name of a scenario (abm list), or path of a YAML file.", show_default=False)
    ],
    at: Annotated[str, typer.Option(help="When the members branch off (UTC).", show_default=False)],
    until: Annotated[
        str, typer.Option(help="By when (UTC), at most a year later.", show_default="the end of what is played")
    ] = "",
    below: Annotated[list[float] | None, typer.Option(help="A price to fall to; may be repeated.")] = None,
    above: Annotated[list[float] | None, typer.Option(help="A price to rise to; may be repeated.")] = None,
    instrument: Annotated[str, typer.Option(help="Whose price.", show_default="the first instrument")] = "",
    members: Annotated[int, typer.Option(min=2, max=100_000, help="Continuations.")] = 100,
    play_until: Annotated[
        str,
        typer.Option(help="When playing ends and resampling begins.", show_default="the scenario's end, or --until"),
    ] = "",
    block: Annotated[str, typer.Option(help="Mean length of the blocks of played hours that are resampled.")] = "1d",
    set_: Set = None,
    store: Store = "",
    workers: Workers = 1,
    scheduler: Scheduler = "",
    csv: Annotated[Path | None, typer.Option(help="Write the probabilities here.", show_default=False)] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it here (.png, .svg, .pdf).", show_default=False)] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """How likely a price reaches levels by each day: the share of an ensemble's members whose trades do, with intervals of 90 %.

    Members have the same past and, from --at on, other chance each: a member is a scenario with a `branch`, which `abm run` plays alone. Beyond
    what is played, hours of all members are resampled in blocks, without what all did alike; the table says which part is which.
    """
    from abm.scenario import Branch
    from experiments.ensemble import Ensemble

    check_file(csv, [".csv"])
    check_file(figure, PICTURES)
    asked = _question(
        scenario, set_, instrument, at, until, play_until, block, [*_levels("below", below), *_levels("above", above)]
    )
    first = asked.scenario
    runs = [first.model_copy(update={"branch": Branch(at=asked.at, seed=k + 1)}) for k in range(members)]
    where = store or Path("runs") / "forecasts" / f"{first.name}.sqlite"
    if dry_run:
        past = first.clock.seconds_at(asked.at) / (first.clock.steps * first.clock.step)
        announce(
            runs,
            MEASURE,
            where,
            workers,
            f"{members} members from {_written(asked.at)}, {past:.0%} of each is the same past",
        )
        return
    with Ensemble(MEASURE, store=where, workers=workers, scheduler=scheduler) as ensemble:
        outcomes = ensemble.play(runs, f"{first.name}, {members} members")
    _report(asked, runs, outcomes, csv, figure, json)


def _report(
    asked: Question,
    runs: Sequence["Scenario"],
    outcomes: Sequence[Any],
    csv: Path | None,
    figure: Path | None,
    json: bool,
) -> None:
    """Count, and say it as table, JSON, CSV and picture."""
    from abm.scenario import ScenarioError
    from analysis.forecast import probabilities

    whole = [k for k, outcome in enumerate(outcomes) if not outcome.error]
    if asked.resampled and len(whole) == 1:
        raise ScenarioError(
            "one member alone came to an end, and nothing can be resampled from it; --members, or an earlier --until"
        )
    if len(whole) < len(outcomes):
        error = next(outcome.error for outcome in outcomes if outcome.error)
        typer.echo(
            f"{len(outcomes) - len(whole)} of {len(outcomes)} members failed and are left out, the first: {error}",
            err=True,
        )
    if not whole:
        raise ScenarioError("no member went well; there is nothing to count")
    found = _paths(asked, [runs[k] for k in whole], [outcomes[k].measures for k in whole])
    table = probabilities(found, asked.levels, asked.until)
    if csv is not None:
        table.to_csv(csv, index=False)
    if figure is not None:
        from analysis.forecast_figure import forecast_figure

        title = f"{asked.scenario.name}: {asked.instrument}, {len(whole)} continuations from {_written(asked.at)}"
        forecast_figure(found, asked.levels, title).savefig(figure, dpi=150)
    if json:
        typer.echo(json_format.dumps(_content(asked, found, table, [runs[k] for k in whole]), indent=2))
        return
    _show(asked, found, table)
    for path in (csv, figure):
        if path is not None:
            typer.echo(str(path))


# ----------------------------------------------------------------------------------------------------------- the question


def _levels(side: Any, prices: Sequence[float] | None) -> list["Level"]:
    from abm.scenario import ScenarioError
    from analysis.forecast import Level

    for price in prices or ():
        if not 0 < price < float("inf"):
            raise ScenarioError(f"{side}: {price:g} is no price; give one above 0")
    levels = [Level(side, price) for price in prices or ()]
    labels = [str(level) for level in levels]
    for label in labels:
        if labels.count(label) > 1:
            raise ScenarioError(f"--{side}: two levels are both called {label!r}; give one of them")
    return levels


def _question(
    name: str,
    set_: Sequence[str] | None,
    instrument: str,
    at: str,
    until: str,
    play_until: str,
    block: str,
    levels: Sequence["Level"],
) -> Question:
    from abm.scenario import ScenarioError, meant

    described = changed(name, set_)
    begins = moment(at, "at")
    ends = moment(until, "until") if until else None
    default = described.clock.end if ends is None else min(ends, described.clock.end)
    played = moment(play_until, "play-until") if play_until else default
    ends = ends or played
    market = instrument or next(iter(described.instruments))
    if not levels:
        raise ScenarioError("nothing is asked; give --below or --above, such as --below 65000")
    if market not in described.instruments:
        raise ScenarioError(f"instrument: {market!r} is not traded here{meant(market, described.instruments)}")
    if not begins < played <= ends:
        raise ScenarioError(
            f"--at {_written(begins)}, --play-until {_written(played)} and --until {_written(ends)} must come in this order; "
            f"{described.name} ends at {_written(described.clock.end)} unless --play-until says otherwise"
        )
    if ends - begins > FURTHEST:
        raise ScenarioError(f"until: {_written(ends)} is more than a year after --at; ask for an earlier day")
    asked = Question(_played(name, set_, begins, played), market, tuple(levels), begins, ends, _span(block))
    _check_hours(asked)
    return asked


def _played(name: str, set_: Sequence[str] | None, at: datetime, end: datetime) -> "Scenario":
    """The scenario with its first branch, to where playing ends."""
    ends, branch = end.isoformat(), {"at": at.isoformat(), "seed": 1}
    return changed(name, set_, {"clock": {"end": ends}, "branch": branch})


def _span(block: str) -> timedelta:
    from abm.clock import seconds
    from abm.scenario import ScenarioError

    try:
        span = timedelta(seconds=seconds(block))
    except ValueError as error:
        raise ScenarioError(f"block: {error}") from None
    if span < _HOUR:
        raise ScenarioError(f"block: {block} is less than an hour, which is what is resampled; give a longer one")
    return span


def _check_hours(asked: Question) -> None:
    """Refuse what does not fall on bars, or on the hours that are resampled."""
    from abm.scenario import ScenarioError

    interval = asked.scenario.recording.interval
    if asked.scenario.clock.seconds_at(asked.at) % interval > 1e-6 or interval > 3600:
        raise ScenarioError(
            f"at: {_written(asked.at)} is not the beginning of a bar of an hour at most (recording.interval); move it"
        )
    if asked.until == asked.played_until:
        return
    played = asked.played_until - asked.at
    if played % _HOUR or (asked.until - asked.at) % _HOUR:
        raise ScenarioError(
            "--play-until and --until must be whole hours after --at where hours are resampled; move them"
        )
    if played < asked.block:
        raise ScenarioError(
            f"{played / _HOUR:g} h are played, less than a block of {asked.block / _HOUR:g} h; give a later --play-until or a shorter --block"
        )


def _paths(asked: Question, runs: Sequence["Scenario"], measured: Sequence[Any]) -> "Paths":
    from abm.random import stream
    from analysis.forecast import paths, resampled

    found = paths(measured, asked.instrument, asked.at)
    if not asked.resampled:
        return found
    rngs = [stream(run.branch.seed, "forecast", "blocks") for run in runs if run.branch is not None]
    return resampled(found, asked.resampled, asked.block / _HOUR, rngs)


def _written(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M}Z"


# ------------------------------------------------------------------------------------------------------------- the answer


def _volatilities(asked: Question, found: "Paths") -> dict[str, float]:
    from analysis.forecast import volatility

    returns = found.returns()
    parts = {"played": returns[:, : found.played], "resampled": returns[:, found.played :]}
    return {part: volatility(hourly) for part, hourly in parts.items() if hourly.size}


def _content(asked: Question, found: "Paths", table: "pd.DataFrame", runs: Sequence["Scenario"]) -> dict[str, Any]:
    lowest, highest = found.low.min(axis=1), found.high.max(axis=1)
    return {
        "scenario": asked.scenario.name,
        "instrument": asked.instrument,
        "at": asked.at.isoformat(),
        "played_until": asked.played_until.isoformat(),
        "until": asked.until.isoformat(),
        "price_at": found.start,
        "volatility_a_year": _volatilities(asked, found),
        "probabilities": table.assign(time=[time.isoformat() for time in table["time"]]).to_dict("records"),
        "members": [
            {
                "branch": run.branch.seed if run.branch else None,
                "scenario_hash": run.hash,
                "lowest": float(lowest[k]),
                "highest": float(highest[k]),
                "last": float(found.close[k, -1]),
            }
            for k, run in enumerate(runs)
        ],
    }


def _show(asked: Question, found: "Paths", table: "pd.DataFrame") -> None:
    import numpy as np

    many = len(found.close)
    typer.echo(
        f"{asked.scenario.name}: {asked.instrument} at {found.start:,.6g} on {_written(asked.at)}; {many} continuations"
    )
    events = [str(level) for level in asked.levels]
    rows = []
    for time, mine in table.groupby("time", sort=False):
        if _printed(time, asked):
            cells = mine.set_index("event").loc[events]
            chances = [f"{row.probability:.0%} [{row.low:.0%}, {row.high:.0%}]" for row in cells.itertuples()]
            rows.append((_written(time), str(mine["part"].iloc[0]), *chances))
    print_rows(rows, ("by", "", *events), whole=True)
    typer.echo()
    for part, last in (("played", asked.played_until), ("resampled", asked.until)):
        if part in (said := _volatilities(asked, found)):
            k = found.played - 1 if part == "played" else -1
            low, middle, high = (f"{price:,.6g}" for price in np.quantile(found.close[:, k], (0.05, 0.5, 0.95)))
            until = f"{part} until {_written(last)}: volatility {said[part]:.0%} a year"
            typer.echo(f"{until}; price then {middle}, nine in ten from {low} to {high}")
    if asked.resampled:
        played = f"the {found.played} h that {many} members have played, as far as they differed"
        typer.echo(
            f"resampled: blocks of {asked.block / _HOUR:g} h on average of {played}: as rough as chance made those hours"
        )
    typer.echo(
        "Brackets: intervals of 90 % for the number of members (Wilson). They say nothing of how wrong the model is."
    )
    if asked.scenario.caveat:
        typer.echo(asked.scenario.caveat)


def _printed(time: Any, asked: Question) -> bool:
    """Days of a fortnight, then the last ones of months, and where a part ends."""
    day = time - timedelta(microseconds=1)
    near = time - asked.at <= timedelta(days=14)
    return bool(near or time in (asked.until, asked.played_until) or (day + _HOUR).month != day.month)
