"""What the page says in words: the lamps of the chain, the table of facts, the key of the colours."""

import math
from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd
from matplotlib.colors import to_hex

from abm.contagion.chain import RULES
from analysis.figures import REASONS
from analysis.wording import number
from experiments.app.pictures import Times


def legend_html(reasons: list[str]) -> str:
    """What the colours and hatches of volume mean."""
    stripes = {"//": "135deg", "xx": "45deg", "..": "90deg", "\\\\": "45deg", "--": "180deg"}
    said = []
    for label, colour, hatch in (REASONS[reason] for reason in reasons):
        over = f", repeating-linear-gradient({stripes[hatch]}, #fff 0 2px, transparent 2px 6px)" if hatch else ""
        fill = f"background-color:{to_hex(colour)};background-image:{over[2:] or 'none'}"
        said.append(f'<span class="key"><i style="{fill}"></i>{label}</span>')
    return f'<div class="legend">{"".join(said)}</div>'


def stages_html(stages: list[dict[str, Any]], times: Times, seconds: float, calm: float) -> str:
    """The stages of the chain as a row of lamps."""
    known: Mapping[str, dict[str, Any]] = {stage["stage"]: stage for stage in stages}
    onsets = sorted(stage["onset"] for stage in stages if stage["onset"] is not None)
    lamps = []
    for name in RULES:
        stage = known.get(name, {"onset": None, "near": 0.0})
        lit = stage["onset"] is not None
        if lit:
            said = f"<b>{onsets.index(stage['onset']) + 1}.</b> {times.written(stage['onset'])}"
        else:
            said = f"{stage['near']:.0%} of the way" if stages else "not yet judged"
        lamps.append(
            f'<li class="{"lit" if lit else "unlit"}"><span class="name">{name.replace("_", " ")}</span>'
            f'<span class="bar" style="width:{100 * (1.0 if lit else stage["near"]):.0f}%"></span><span class="when">{said}</span></li>'
        )
    wait = "" if stages or not seconds else f"<p>Stages are judged against the first {calm / 3600:g} h of the run.</p>"
    return f'<ol class="stages">{"".join(lamps)}</ol>{wait}'


def facts_html(facts: list[dict[str, Any]], observed: bool) -> str:
    """What the run says beside what was observed, as a table."""
    if not observed:
        return "<p>This scenario is held against no observations.</p>"
    if not facts:
        return "<p>Nothing yet: each fact appears when the run has covered its time.</p>"
    rows = []
    for fact in facts:
        inside = {True: "yes", False: "no", None: "-"}[fact["inside"]]
        role = {"input": "put in", "fitted": "fitted", "predicted": "predicted"}[fact["role"]]
        low, high = (math.nan if fact[end] is None else fact[end] for end in ("low", "high"))
        bounds = " to ".join(number(each, fact["unit"]) for each in (low, high))
        rows.append(
            f'<tr class="{"in" if fact["inside"] else "out"}"><th scope="row">{_what(fact)} <span class="on">{_when(fact)}</span></th>'
            f"<td>{number(fact['observed'], fact['unit'])}</td><td>{bounds}</td>"
            f"<td>{number(fact['simulated'], fact['unit'])}</td><td>{role}</td><td>{inside}</td></tr>"
        )
    head = "".join(
        f'<th scope="col">{t}</th>' for t in ("fact and time (UTC)", "observed", "bounds", "this run", "role", "inside")
    )
    counted = [fact for fact in facts if fact["role"] != "input" and fact["inside"] is not None]
    inside_all = sum(fact["inside"] for fact in counted)
    total = (
        f"<p>{inside_all} of {len(counted)} fitted or predicted facts lie inside their bounds; one run says little.</p>"
        if counted
        else "<p>So far only what was put in: it says nothing of the model.</p>"
    )
    return (
        f'{total}<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _what(fact: Mapping[str, Any]) -> str:
    """What was observed: of a price, whether it is the lowest or the highest of its window."""
    extreme = {"low": ", lowest", "high": ", highest"}.get(fact["measure"], "")
    return escape(fact["quantity"].replace("_", " ") + extreme)


def _when(fact: Mapping[str, Any]) -> str:
    """The moment or the window that was observed; days where it is made of whole ones."""
    start, end = (pd.Timestamp(fact[each]).ceil("min") for each in ("start", "end"))
    if start == end:
        return _moment(start)
    end = end.ceil("h")  # a minute before midnight is midnight
    if start == start.normalize() and end == end.normalize():
        last = end - pd.Timedelta(days=1)
        return _day(start) if start == last else f"{_day(start)} to {_day(last)}"
    return f"{_moment(start)} to {end:%H:%M}" if start.date() == end.date() else f"{_moment(start)} to {_moment(end)}"


def _day(when: pd.Timestamp) -> str:
    return f"{when.day} {when:%b}"


def _moment(when: pd.Timestamp) -> str:
    return f"{_day(when)} {when:%H:%M}"
