"""The sections of a report on a sweep: its design, what its points came to, figures, failures."""

import pandas as pd
import yaml

from analysis.report.page import Lacking, Parts, Table, picture, render, sections
from analysis.sweep import Sweep
from analysis.sweep_figure import sweep_figure
from analysis.wording import number

POINTS, FAILURES, FIGURES = 60, 20, 8
"""Rows of the tables of points and of failures, and measures that are drawn."""


def sweep_report(found: Sweep) -> str:
    """The report of a sweep."""
    content = sections(
        [
            ("design", "What was varied", lambda: _design(found)),
            ("points", "What the points came to", lambda: _points(found)),
            ("figures", "Measures against keys", lambda: _figures(found)),
            ("failures", "Failures", lambda: _failures(found)),
            ("repeat", "How to repeat it", lambda: _repeat(found)),
        ]
    )
    counts = found.manifest["counts"]
    told = f"a sweep of {counts['points']} points, {counts['runs']} runs, {found.manifest['began']} to {found.manifest['ended']}"
    return render(found.manifest["name"], told, content)


def _design(found: Sweep) -> Parts:
    counts, design = found.manifest["counts"], found.manifest["design"]
    spent = found.manifest["seconds_of_runs"] / 60
    told = (
        f"Scenario {found.manifest['spec']['scenario']}; design {design['kind']} with {counts['points']} points, {counts['replications']} "
        f"replications of each: {counts['runs']} runs, {spent:,.2g} minutes of computing. {len(found.failures)} runs failed."
    )
    keys = [(key, about, _values(found.table[key])) for key, about in found.manifest["keys"].items()]
    measures = [(name, each["unit"], each["about"]) for name, each in found.manifest["measures"].items()]
    return [
        told,
        Table("What was varied.", ("key", "what it is", "values"), keys, {0, 1, 2}),
        Table(
            "What was measured of each run. Unit 1: a fraction.", ("measure", "unit", "what it is"), measures, {0, 1, 2}
        ),
    ]


def _values(column: "pd.Series[object]") -> str:
    """The values of a key: all, or their range where they are many numbers."""
    values = list(dict.fromkeys(column))
    numbers = pd.to_numeric(pd.Series(values), errors="coerce")
    if len(values) > 8 and numbers.notna().all():
        return f"{len(values)} from {numbers.min():.6g} to {numbers.max():.6g}"
    shown = ", ".join(map(_word, values[:8]))
    return f"{shown}, and {len(values) - 8} more" if len(values) > 8 else shown


def _word(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _points(found: Sweep) -> Parts:
    if not found.measures:
        raise Lacking("no run was measured")
    points = found.points()
    units = {name: each["unit"] for name, each in found.manifest["measures"].items()}
    rows = []
    for point, mine in points.groupby("point", sort=True):
        first, by_name = mine.iloc[0], mine.set_index("measure")
        cells = (_interval(by_name.loc[name], units[name]) for name in found.measures)
        rows.append((str(point), *(_word(first[key]) for key in found.keys), str(by_name["runs"].max()), *cells))
    titles = (
        "point",
        *found.keys,
        "runs",
        *(f"{name} ({unit})" if unit not in ("", "1") else name for name, unit in units.items()),
    )
    left_out = f"; the first {POINTS} of {len(rows)}" if len(rows) > POINTS else ""
    return [
        Table(f"Median over the replications, and in brackets where nine of ten lie{left_out}.", titles, rows[:POINTS])
    ]


def _interval(row: "pd.Series[float]", unit: str) -> str:
    middle, low, high = (number(row[name], unit) for name in ("median", "low", "high"))
    return middle if row["runs"] < 2 else f"{middle} [{low}, {high}]"


def _figures(found: Sweep) -> Parts:
    points = found.points() if found.measures else pd.DataFrame()
    drawn = [name for name in found.measures if points.loc[points["measure"] == name, "median"].notna().any()]
    if not (drawn and found.keys):
        raise Lacking("there is nothing to draw")
    caption = "{} against what was varied: dots are medians of points, bars where nine of ten runs lie, the line the median of points at a value."
    figures = [
        picture(sweep_figure(points, found.keys, name, found.manifest["measures"][name]["unit"]), caption.format(name))
        for name in drawn[:FIGURES]
    ]
    return [*figures, *([f"Not drawn: {', '.join(drawn[FIGURES:])}."] if len(drawn) > FIGURES else [])]


def _failures(found: Sweep) -> Parts:
    failed = found.failures
    if failed.empty:
        raise Lacking("no run failed")
    stages = ", ".join(f"{count} at stage {stage}" for stage, count in failed["stage"].value_counts().items() if count)
    rows = [
        (str(row["point"]), *(_word(row[key]) for key in found.keys), str(row["seed"]), row["stage"], row["error"])
        for row in failed.head(FAILURES).to_dict("records")
    ]
    titles = ("point", *found.keys, "seed", "stage", "error")
    left_out = f" The first {FAILURES} are shown; all are in failures.csv." if len(failed) > FAILURES else ""
    told = f"{len(failed)} of {len(found.table)} runs failed: {stages}.{left_out}"
    return [told, Table("Runs that failed.", titles, rows, {len(titles) - 2, len(titles) - 1})]


def _repeat(found: Sweep) -> Parts:
    manifest = found.manifest
    spec = yaml.safe_dump(manifest["spec"], sort_keys=False, allow_unicode=True)
    rows = [
        ("specification", spec.strip()),
        ("measures of one's own", ", ".join(manifest["own_measures"])),
        ("version of the code", str(manifest["version"])),
        ("versions", ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())),
    ]
    return [
        "Write the specification to a file and give it to abm sweep; the same command goes on where it was stopped.",
        Table("Where it comes from.", (), [row for row in rows if row[1]], {0, 1}),
    ]
