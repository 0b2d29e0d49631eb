"""`abm ablate`: what each link of a scenario's chain adds, by switching links off under the same random numbers."""

import json as json_format
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.wording import number
from experiments.options import DryRun, Json, Scheduler, Set, Store, Workers, announce, changed, seeds_of
from experiments.tables import PICTURES, check_file, print_files, print_rows, write_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from abm.scenario import Scenario
    from analysis.ablation import Ablation, Design
    from experiments.ensemble import Outcome

MEASURES = "drawdown,liquidated_usd,liquidated_accounts,spread,depth"


def ablate(
    scenario: Annotated[
        str,
        typer.Argument(help="Name of a scenario with links (abm list), or path of a YAML file.", show_default=False),
    ],
    permutations: Annotated[
        int, typer.Option(min=2, help="Orders of the links, each and its reverse; all sets where that takes no more.")
    ] = 16,
    only_single: Annotated[
        bool, typer.Option("--only-single", help="Switch off each link alone and all together, and no other sets.")
    ] = False,
    seeds: Annotated[str, typer.Option(help="Such as 1,2 or 1-5.", show_default="the scenario's")] = "",
    measures: Annotated[str, typer.Option(help="What of each run; also <instrument>.<measure>.")] = MEASURES,
    instrument: Annotated[
        str, typer.Option(help="Whose drawdown, spread and so on.", show_default="the first instrument")
    ] = "",
    set_: Set = None,
    store: Store = "",
    workers: Workers = 1,
    scheduler: Scheduler = "",
    csv: Annotated[Path | None, typer.Option(help="Write the table here.", show_default=False)] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it here (.png, .svg, .pdf).", show_default=False)] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Switch off the links of a scenario's chain, alone and in sets, and say what each adds: its Shapley value, with its errors.

    Runs that are compared have the same seeds, so that they differ by the links and by what follows from them. The same command goes on where
    it was stopped.
    """
    from analysis.measures import chosen, functions
    from experiments.ensemble import Ensemble

    check_file(csv, [".csv"])
    check_file(figure, PICTURES)
    described = changed(scenario, set_)
    design = _design(described, 0 if only_single else permutations)
    names = chosen(measures.split(","), list(described.instruments), instrument or next(iter(described.instruments)))
    measure = functions(names)
    several = seeds_of(seeds) or [described.seed]
    runs = [
        run.model_copy(update={"seed": seed})
        for run in (_with(described, coalition) for coalition in design.coalitions)
        for seed in several
    ]
    where = store or Path("runs") / "ablations" / f"{described.name}.sqlite"
    if dry_run:
        announce(runs, measure, where, workers, f"{len(design.links)} links, {_extent(design)}, {_seeds(several)}")
        return
    with Ensemble(measure, store=where, workers=workers, scheduler=scheduler) as ensemble:
        outcomes = ensemble.play(runs, f"{described.name}, {_extent(design)}")
    found = _ablation(design, names, several, outcomes)

    def draw() -> "Figure":
        from analysis.ablation_figure import ablation_figure
        from analysis.measures import unit

        title = f"{described.name}: what each link adds ({_seeds(found.seeds)}, {_extent(design)})"
        return ablation_figure(found.table, {name: unit(name) for name in names}, title)

    write_files(csv, found.table, figure, draw)
    if json:
        typer.echo(json_format.dumps(_content(described, found), indent=2))
        return
    _show(described, found)
    print_files(csv, figure)


def _design(described: "Scenario", permutations: int) -> "Design":
    from abm.random import stream
    from abm.scenario import ScenarioError
    from analysis.ablation import design

    if not described.links:
        raise ScenarioError(
            f"{described.name}: has no links; say under links what can be switched off (abm schema links)"
        )
    if permutations % 2:
        raise ScenarioError(
            f"permutations: {permutations} is odd, and each comes with its reverse; give {permutations + 1}"
        )
    return design(list(described.links), permutations, stream(1, "ablation", "orders"))


def _with(described: "Scenario", links: Collection[str]) -> "Scenario":
    """A scenario with some of its links on and the others off."""
    from pydantic import ValidationError

    from abm.scenario import ScenarioError

    off = [link for link in described.links if link not in links]
    try:
        return described.without(off)
    except ValidationError as error:  # each alone and all together were tried when it was read
        wrong = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ScenarioError(f"{described.name}: with the links {', '.join(off)} off: {wrong}") from None


def _extent(design: "Design") -> str:
    if design.ways is None:
        return f"all {len(design.coalitions)} sets"
    return f"{len(design.ways)} orders" if design.ways else "single links"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"


def _ablation(
    design: "Design", names: Sequence[str], seeds: Sequence[int], outcomes: Sequence["Outcome"]
) -> "Ablation":
    """What outcomes say; a seed of which a run failed is left out, as its sets of links cannot be compared."""
    import numpy as np

    from abm.scenario import ScenarioError
    from analysis.ablation import Ablation

    table = np.array([outcomes[k : k + len(seeds)] for k in range(0, len(outcomes), len(seeds))], object)
    whole = [s for s in range(len(seeds)) if not any(outcome.error for outcome in table[:, s])]
    for s in set(range(len(seeds))) - set(whole):
        failed = [
            (coalition, outcome)
            for coalition, outcome in zip(design.coalitions, table[:, s], strict=True)
            if outcome.error
        ]
        coalition, outcome = failed[0]
        off = ", ".join(link for link in design.links if link not in coalition) or "nothing"
        typer.echo(
            f"seed {seeds[s]} is left out: {len(failed)} of its runs failed, the first with {off} off: {outcome.error}",
            err=True,
        )
    if not whole:
        raise ScenarioError("no seed of which all runs went well; nothing can be compared")
    game = {
        coalition: np.array([[outcome.measures.get(name, math.nan) for outcome in row[whole]] for name in names])
        for coalition, row in zip(design.coalitions, table, strict=True)
    }
    return Ablation(design, tuple(names), tuple(seeds[s] for s in whole), game)


# ------------------------------------------------------------------------------------------------------------- the report


def _content(described: "Scenario", found: "Ablation") -> dict[str, Any]:
    """All that is printed, and more, as plain values; what is not a number is None."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(each) for key, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    together = found.interactions
    content = {
        "scenario": described.name,
        "scenario_hash": described.hash,
        "seeds": list(found.seeds),
        "links": {name: link.about for name, link in described.links.items()},
        "sets_played": len(found.design.coalitions),
        "orders": None if found.design.ways is None else len(found.design.ways),
        "full": dict(zip(found.measures, found.full.mean(axis=1).tolist(), strict=True)),
        "none": dict(zip(found.measures, found.none.mean(axis=1).tolist(), strict=True)),
        "table": found.table.to_dict("records"),
        "interactions": None if together is None else together.to_dict("records"),
    }
    return dict(plain(content))


def _show(described: "Scenario", found: "Ablation") -> None:
    from analysis.measures import unit

    for m, measure in enumerate(found.measures):
        said, of = found.table[found.table["measure"] == measure], unit(measure)
        full, none = float(found.full[m].mean()), float(found.none[m].mean())
        typer.echo(
            f"{measure}{f' ({of})' if of != '1' else ''}: {number(full, of)} with all links, {number(none, of)} with none ({_seeds(found.seeds)})"
        )
        rows = [_row(row, of, full - none) for row in said.to_dict("records")]
        if found.design.shares:
            total = float(said["share"].sum())
            rows.append(("all", "", number(full - none, of, "+"), number(total, of, "+"), "", "", "100%"))
            titles = ("link", "without it", "it adds then", "Shapley value", "error: orders", "seeds", "of all")
        else:
            titles = ("link", "without it", "it adds then", "error: seeds")
        print_rows(rows, titles, whole=True)
        typer.echo()
    _show_interactions(found)
    for name, link in described.links.items():
        typer.echo(f"{name}: {link.about}" if link.about else name)
    if described.caveat:
        typer.echo(described.caveat)


def _row(row: Mapping[str, Any], of: str, whole: float) -> tuple[str, ...]:
    first = (row["link"], number(row["without"], of), number(row["adds"], of, "+"))
    if "share" not in row:
        return (*first, number(row["adds_error"], of))
    part = f"{round(row['share'] / whole, 2) + 0.0:.0%}" if whole else "-"  # no -0%
    return (
        *first,
        number(row["share"], of, "+"),
        number(row["error_orders"], of),
        number(row["error_seeds"], of),
        part,
    )


def _show_interactions(found: "Ablation") -> None:
    """The strongest interaction of each measure, where every set was played."""
    from analysis.measures import unit

    table = found.interactions
    if table is None or table.empty:
        return
    rows = []
    for measure, mine in table.groupby("measure", sort=False):
        for row in mine.sort_values("together", key=abs, ascending=False).head(3).itertuples():
            rows.append((measure, row.link, row.other, number(row.together, unit(str(measure)), "+")))
    print_rows(rows, ("measure", "link", "and", "together beyond each alone"), whole=True)
    typer.echo()
