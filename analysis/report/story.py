"""The story of a run in sentences, each made of its numbers."""

from collections.abc import Sequence

import pandas as pd

from abm.record import LOST
from analysis.compare import Row
from analysis.report.taken import Gist, Shown, spread
from analysis.wording import number, strayed_text

NAMED = 3
"""Names in a list of a sentence."""
DAY, HOUR = pd.Timedelta("1D"), pd.Timedelta("1h")


def story(shown: Shown, gists: Sequence[Gist], rows: Sequence[Row]) -> list[str]:
    """Paragraphs that tell what happened; of several runs first what they have in common, then the one that is shown.

    Args:
        shown: The run that is told in full.
        gists: All runs.
        rows: Their comparison with what was observed.
    """
    described = [shown.scenario["description"].rstrip(".") + "."] if shown.scenario["description"] else []
    several = [_several(shown, gists)] if len(gists) > 1 else []
    told = [
        _way(shown),
        _worst(shown),
        _others(shown),
        _holdings(shown),
        _movers(shown),
        _stages(shown),
        _closed(shown),
    ]
    caveat = [shown.scenario["caveat"]] if shown.scenario["caveat"] else []
    left = [f"{text} (seed {run.seed})" for run in gists if (text := strayed_text(run.strayed))]
    return [*described, *several, *filter(None, told), *filter(None, [_compared(rows)]), *left, *caveat]


def when(time: pd.Timestamp) -> str:
    """A moment as people write it, UTC."""
    return f"{time.day} {time:%B %H:%M}"


def listed(names: Sequence[str]) -> str:
    """Words in a row, with `and` before the last."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _several(shown: Shown, gists: Sequence[Gist]) -> str:
    middle, low, high = spread([run.mids.iloc[-1] / run.mids.iloc[0] - 1.0 for run in gists])
    return (
        f"{len(gists)} runs differ in their seed alone. Over them the mid of {shown.first} changes by {middle:+.1%} (median; nine in ten "
        f"from {low:+.1%} to {high:+.1%}). What follows is the run with the median change, seed {shown.summary['seed']}."
    )


def _way(shown: Shown) -> str:
    about, currency = shown.summary["instruments"][shown.first], shown.scenario["instruments"][shown.first]["currency"]
    mids = shown.mids
    start, end = mids.index[0], mids.index[-1]
    change = about["close"] / about["open"] - 1.0
    went = "fell" if change < 0 else "rose" if change > 0 else "stayed where it was"
    by = f" by {abs(change):.1%}, from {about['open']:,.2f} to {about['close']:,.2f} {currency}" if change else ""
    first = f"Between {when(start)} and {when(end)} (UTC, {end.year}) the mid of {shown.first} {went}{by}."
    falls = mids / mids.cummax() - 1.0
    if not falls.min() < 0:
        return first
    low = falls.idxmin()
    high = mids[:low].idxmax()
    return (
        f"{first} The deepest fall was {-falls.min():.1%}, from {mids[high]:,.2f} on {when(high)} "
        f"to {mids[low]:,.2f} on {when(low)}."
    )


def _worst(shown: Shown) -> str:
    """The hour, and the day, in which most was lost."""
    told = []
    for span, name in ((DAY, "day"), (HOUR, "hour")):
        if shown.interval > span or shown.mids.index[-1] - shown.mids.index[0] < 2 * span:
            continue
        ends = shown.mids.resample(span, closed="right", label="left").last().ffill()
        moves = ends.pct_change()
        moves.iloc[0] = ends.iloc[0] / shown.mids.iloc[0] - 1.0
        worst = moves.idxmin()
        if moves[worst] < 0:
            from_ = f"{worst.day} {worst:%B}" if span == DAY else f"that from {when(worst)}"
            told.append(f"the worst {name} was {from_} ({moves[worst]:+.1%})")
    return (listed(told)[:1].upper() + listed(told)[1:] + ".") if told else ""


def _others(shown: Shown) -> str:
    changes = {
        name: about["return"]
        for name, about in shown.summary["instruments"].items()
        if name != shown.first and "return" in about
    }
    if not changes:
        return ""
    if len(changes) == 1:
        ((name, change),) = changes.items()
        return f"{name} changed by {change:+.1%}."
    fell = sorted((name for name, change in changes.items() if change < 0), key=lambda name: changes[name])
    most = listed([f"{name} {changes[name]:+.1%}" for name in fell[:NAMED]])
    return f"Of the other {len(changes)} instruments {len(fell)} fell" + (f", most of all {most}." if fell else ".")


def _holdings(shown: Shown) -> str:
    """Who held less of the first instrument at the end, and who more."""
    first = shown.first
    held = {
        name: each[f"{first}_end"] - each[f"{first}_start"]
        for name, each in shown.summary["traders"].items()
        if f"{first}_start" in each
    }
    fewer, more = (
        [
            f"{name} {abs(held[name]):,.0f}"
            for name in sorted(held, key=lambda name: sign * held[name])[:NAMED]
            if sign * held[name] < -0.5
        ]
        for sign in (1, -1)
    )
    if not (fewer and more):
        return ""
    return (
        f"Who got rid of {first}, from start to end: {listed(fewer)}. Who took it in: {listed(more)} (coins or shares)."
    )


def _movers(shown: Shown) -> str:
    parts = shown.moved.parts
    if parts.empty:
        return ""
    down, up = (
        listed(
            [
                f"{part.kind} ({part.reason.replace('_', ' ')})"
                for part in parts[sign * parts["change"] > 0].head(2).itertuples()
            ]
        )
        for sign in (-1, 1)
    )
    told = [f"{way} mostly by orders of {who}" for way, who in (("down", down), ("up", up)) if who]
    there_and_back, left = parts["change"].abs().sum(), abs(parts["change"].sum())
    much = (
        f" What they moved it both ways is {there_and_back / left:,.0f} times what is left of it."
        if there_and_back > 3 * left > 0
        else ""
    )
    return f"The mid of {shown.first} was moved {listed(told)}.{much}"


def _stages(shown: Shown) -> str:
    if isinstance(shown.stages, str):
        return ""
    known = shown.stages.dropna(subset=["onset"])
    never = [name.replace("_", " ") for name in shown.stages["stage"][shown.stages["onset"].isna()]]
    order = [f"{stage.stage.replace('_', ' ')} ({when(stage.onset)})" for stage in known.itertuples()]
    told = (
        f"The stages of a cascade set in in this order: {', '.join(order)}."
        if order
        else "No stage of a cascade set in."
    )
    return told + (f" Never: {', '.join(never)}." if order and never else "")


def _closed(shown: Shown) -> str:
    closed, trees = shown.closed, shown.trees
    if trees.empty:
        return (
            "Nobody was liquidated." if any(each["margin"] for each in shown.scenario["instruments"].values()) else ""
        )
    total, counts = float(closed["notional"].sum()), shown.summary["liquidations"]
    long = float(closed.loc[closed["closed"] == "long", "notional"].sum()) / total if total else 0.0
    sold, taken, against = (
        float(closed.loc[closed["what"] == what, "notional"].sum()) / max(total, 1e-12) for what in LOST
    )
    chained = int((trees["liquidations"] - 1).sum())
    return (
        f"The clearing house closed positions of {closed['account'].nunique():,} accounts, worth {number(total, 'USD')} USD at the mark, "
        f"{long:.0%} of it long: {sold:.0%} was sold into the books, {taken:.0%} the insurance fund took over, {against:.0%} was closed against "
        f"others who were deleveraged. Of {counts['liquidated']:,} liquidations {chained:,} were set off by another one's orders, over up to "
        f"{int(trees['depth'].max())} generations. {counts['defaulted']:,} accounts defaulted."
    )


def _compared(rows: Sequence[Row]) -> str:
    told = []
    for role in ("predicted", "fitted"):
        counted = [row for row in rows if row.role == role and row.inside is not None]
        if counted:
            told.append(
                f"{sum(bool(row.inside) for row in counted)} of {len(counted)} observations that are {role} lie inside their bounds"
            )
    put_in = sum(row.role == "input" for row in rows)
    if not told:
        return ""
    return f"Beside what was observed: {listed(told)}." + (
        f" {put_in} more were put in, and agreement there says nothing." if put_in else ""
    )
