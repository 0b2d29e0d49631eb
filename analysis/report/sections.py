"""The sections of a report on runs; each gives its paragraphs, tables and pictures, or raises `Lacking`."""

import shlex
from collections.abc import Sequence

import pandas as pd

from abm.scenario import ScenarioError
from analysis.compare import Row, compare_measured
from analysis.compare_figure import comparison_figure
from analysis.figures import price_and_depth, prices_of_runs, volume_by_reason
from analysis.measures import REGISTRY
from analysis.report import causes
from analysis.report.page import Lacking, Parts, Table, picture, render, sections
from analysis.report.story import story, when
from analysis.report.taken import Gist, Shown, interval
from analysis.samples import key as interval_key
from analysis.samples import run_sample
from analysis.stylised import reference_curves, stylised_curves, stylised_facts
from analysis.stylised_figure import stylised_figure
from analysis.wording import UNDECIDED_TEXT, comparison_cells, fact_cells, number


def run_report(shown: Shown, gists: Sequence[Gist]) -> str:
    """The report of one run, or of several of one scenario.

    Args:
        shown: The run that is shown in full.
        gists: All of them, that one too.
    """
    rows = [row for row in compare_measured(shown.scenario, [run.observed for run in gists]) if row.runs]
    content = sections(
        [
            ("story", "What happened", lambda: story(shown, gists, rows)),
            ("prices", "Prices and trade", lambda: _prices(shown, gists)),
            ("observed", "Beside what was observed", lambda: _compared(shown, rows, len(gists))),
            ("attribution", "Whose orders moved the price", lambda: causes.moved(shown, gists)),
            ("stages", "In what order it came", lambda: causes.stages(shown, gists)),
            ("cascade", "What set off what", lambda: causes.cascade(shown, gists)),
            ("network", "Who is linked to whom", lambda: causes.network(shown)),
            ("stylised", "Stylised facts", lambda: _stylised(shown)),
            ("audit", "Audit", lambda: _audit(shown, gists)),
            ("repeat", "How to repeat it", lambda: _repeat(shown, gists)),
        ]
    )
    seeds = f"{len(gists)} seeds" if len(gists) > 1 else f"seed {shown.summary['seed']}"
    start, end = (pd.Timestamp(shown.summary[key]) for key in ("start", "end"))
    return render(shown.scenario["name"], f"{seeds}; {when(start)} to {when(end)} {end.year} (UTC)", content)


def _prices(shown: Shown, gists: Sequence[Gist]) -> Parts:
    about = {name: each for name, each in shown.summary["instruments"].items() if "volume" in each}
    if not about:
        raise Lacking("the run is shorter than one bar")
    first = shown.first
    fan = [
        picture(
            prices_of_runs({run.seed: run.mids for run in gists}, shown.result, first),
            f"The mid of {first} in all runs.",
        )
    ]
    table = Table(
        "Prices are mids, low and high those of trades, depth medians of what was bid within the distance of the figure.",
        (
            "instrument",
            "open",
            "close",
            "change",
            "deepest fall",
            "low",
            "high",
            "coins or shares",
            "trades",
            "spread (bp)",
            "bid nearby",
        ),
        [
            (
                name,
                f"{each['open']:,.2f}",
                f"{each['close']:,.2f}",
                f"{each['return']:+.1%}",
                f"{each['drawdown']:.1%}",
                f"{each['low']:,.2f}",
                f"{each['high']:,.2f}",
                f"{each['volume']:,.0f}",
                f"{each['trades']:,}",
                number(each["median_spread_bps"], "bp"),
                number(each["median_bid_depth"], "USD"),
            )
            for name, each in about.items()
        ],
    )
    widest = [f"{name} {premium:+.2%}" for name in about if (premium := shown.numbers[f"{name}.premium"]) == premium]
    far = f"Furthest from the index that the mark follows, in the mean of an hour: {', '.join(widest)}."
    return [
        *(fan if len(gists) > 1 else []),
        picture(price_and_depth(shown.result, first), f"The mid of {first}, and what was bid and offered near it."),
        picture(
            volume_by_reason(shown.result, first),
            f"Volume of {first} by the reasons of those who took and gave liquidity.",
        ),
        table,
        *([far] if widest else []),
        *([_measures(gists, list(about))] if len(gists) > 1 else []),
    ]


def _measures(gists: Sequence[Gist], instruments: Sequence[str]) -> Table:
    """Whole runs: medians, and where nine of ten lie."""
    each = {name: about.unit for name, about in REGISTRY.items() if about.each}
    rows = [
        (name, *(interval([run.numbers[f"{name}.{measure}"] for run in gists], unit) for measure, unit in each.items()))
        for name in instruments
    ]
    titles = ("instrument", *(f"{name.replace('_', ' ')} ({unit})".replace(" (1)", "") for name, unit in each.items()))
    return Table(
        f"Over {len(gists)} runs, from start to end: median, and in brackets where nine of ten lie.", titles, rows
    )


def _compared(shown: Shown, rows: Sequence[Row], runs: int) -> Parts:
    if not shown.scenario["observations"]:
        raise Lacking("the scenario names no observations")
    if not rows:
        raise Lacking(f"the run covers no window of {shown.scenario['observations']}")
    about = {
        "predicted": "Predicted: neither put in nor fitted; these are what the model can be judged by.",
        "fitted": "Fitted: parameters were chosen to come near them.",
        "input": "Put in: agreement says nothing.",
    }
    tables = []
    for role, caption in about.items():
        cells = [comparison_cells(row, runs) | {"note": row.note} for row in rows if row.role == role]
        if cells:
            titles = [title for title in cells[0] if title != "role"]
            words = {0, len(titles) - 1, len(titles) - 2}
            tables.append(Table(caption, titles, [[cell[title] for title in titles] for cell in cells], words))
    figure = comparison_figure(rows, shown.scenario["name"] + (f", {runs} runs" if runs > 1 else ""))
    told = [
        Table(
            f"{what}, by the scenario's file.",
            ("key", "source" if key == "inputs" else "to what"),
            list(shown.scenario[key].items()),
            {0, 1},
        )
        for key, what in (("inputs", "What is put in"), ("fitted", "What is fitted"))
        if shown.scenario[key]
    ]
    about_figure = "Each observation with two bounds: where the runs lie beside it, in half widths of its bounds."
    return [
        *([picture(figure, about_figure)] if len(rows) > 2 else []),
        *tables,
        *([UNDECIDED_TEXT] if any(row.decided is False for row in rows) else []),
        *told,
    ]


def _stylised(shown: Shown) -> Parts:
    try:
        measured = run_sample(shown.result)
    except ScenarioError as why:
        raise Lacking(str(why)) from None
    facts = stylised_facts(measured, intervals=False)
    cells = [fact_cells(row) for row in facts.to_dict("records") if row["value"] == row["value"]]
    titles = [title for title in cells[0] if title != "90 % interval"]
    figure = stylised_figure(
        stylised_curves(measured), reference_curves(measured.interval), measured.name, interval_key(measured.interval)
    )
    each = interval_key(measured.interval)
    caption = (
        f"{len(measured.moves):,} returns of {each} of {shown.first}, beside real bitcoin over months of usual trade."
    )
    missing = facts["statistic"][facts["value"].isna()]
    return [
        picture(figure, "The run beside real data."),
        Table(caption, titles, [[cell[title] for title in titles] for cell in cells], {0, 1, 4, 5}),
        *([f"Not measured, for lack of data or of memory in them: {', '.join(missing)}."] if len(missing) else []),
    ]


def _audit(shown: Shown, gists: Sequence[Gist]) -> Parts:
    audit, summary = shown.result.audit, shown.summary
    conserved = "passed: cash, coins and positions are conserved to the unit"
    verdict = conserved if audit.passed else f"FAILED: {'; '.join(audit.faults)}"
    rejects = ", ".join(f"{count:,} {why.replace('_', ' ')}" for why, count in summary["rejects"].items()) or "none"
    told = [
        f"The audit of the ledger {verdict}; residue {audit.residue}.",
        f"{summary['messages']:,} messages, {summary['trades']:,} trades; rejected: {rejects}.",
    ]
    if len(gists) > 1:
        failed = [str(run.seed) for run in gists if not run.audit_passed]
        all_passed = f"The audits of all {len(gists)} runs passed."
        told.append(f"The audits of these seeds FAILED: {', '.join(failed)}." if failed else all_passed)
    return told


def _repeat(shown: Shown, gists: Sequence[Gist]) -> Parts:
    manifest = shown.manifest
    rows = [("scenario", shown.summary["scenario"]), ("its hash, seed included", shown.summary["scenario_hash"])]
    if "command" in manifest:
        rows.insert(0, ("command", shlex.join(manifest["command"])))
        rows.append(("played", f"{manifest['started']} to {manifest['ended']}"))
        rows += [("versions", ", ".join(f"{name} {version}" for name, version in manifest["versions"].items()))]
        rows += [("machine", ", ".join(str(value) for value in manifest["machine"].values()))]
    hashes = Table(
        "Runs of equal scenario and seed have equal event logs.",
        ("seed", "hash of the event log"),
        [(str(run.seed), run.event_log_hash) for run in gists],
        {0, 1},
    )
    return [Table("Where it comes from.", (), rows, {0, 1}), hashes]
