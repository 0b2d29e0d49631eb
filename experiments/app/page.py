"""The page of one visitor: what he sets, the two runs that he sees, and the beat in which pictures are sent."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import panel as pn
from bokeh.document import Document
from bokeh.io import curdoc
from bokeh.models import ColumnDataSource, CustomJS, Div

from abm.scenario import ScenarioError, scenario_files
from experiments.app.controls import MOST_SEED, Changeable, Value
from experiments.app.fields import Fields
from experiments.app.pictures import Times
from experiments.app.runs import Busy, Runs
from experiments.app.side import Side
from experiments.app.snapshot import Grid
from experiments.app.worker import Order

DEFAULT = "february-2026-quick"
_BEAT = 50  # milliseconds between two looks at what has come
_LOST = 2.0  # seconds after which a picture counts as drawn whose drawing was not told
_PACES = {
    "as fast as it goes": 0.0,
    "3 h a second": 10800.0,
    "1 h a second": 3600.0,
    "10 min a second": 600.0,
    "1 min a second": 60.0,
}
# Panel's own sheet comes last, and knows colours that only its templates set
_BUTTON = """
.bk-btn { border: 1px solid #8a8a8a !important; border-radius: 5px; background: #f2f2f2 !important; color: #222 !important; font-size: 15px; }
.bk-btn { width: 100%; cursor: pointer; }
.bk-btn:hover { background: #e2e2e2 !important; }
.bk-btn.bk-active { background: #dcebf5 !important; border-color: #0173b2 !important; font-weight: 700; }
.bk-btn.bk-btn-primary { background: #0173b2 !important; color: #fff !important; font-weight: 700; }
.bk-btn.bk-btn-primary:hover { background: #015a8c !important; }
.bk-btn:focus-visible { outline: 3px solid #de8f05 !important; outline-offset: 1px; }
"""
_WRONG = ".wrong { color: #a33c00; font-weight: 600; font-size: 14px; } .note { color: #0a4f7c; font-weight: 600; font-size: 14px; }"
# Tells the server when a picture is on the screen, so that it sends no more than is drawn
_DRAWN = """
const n = pulse.data.n[0];
requestAnimationFrame(() => requestAnimationFrame(() => {
  window.pictures = (window.pictures || 0) + 1;
  echo.data = {n: [n]};
}));
"""


class _Template(pn.Template):
    """A page of many parts, whose models are looked through once and not with each part."""

    def _init_doc(self, doc: Any = None, *arguments: Any, **more: Any) -> Any:
        doc = doc or curdoc()
        with doc.models.freeze():
            return super()._init_doc(doc, *arguments, **more)

    def __repr__(self) -> str:  # Panel's writes out the whole page, with each part that is added
        return type(self).__name__


@contextmanager
def _at_once(document: Document) -> Iterator[None]:
    """Send what changes here in one go, before anything else is taken from the browser.

    Panel's own hold ends a moment later, and sends what the visitor set in that moment back to him: a slider would go back under his hand.
    """
    document.hold("combine")
    try:
        yield
    finally:
        document.unhold()


class Page:
    """One session.

    Args:
        runs: The runs of all visitors.
        asked: What the address asks for: scenario, seed, compare, and settings a and b.
    """

    def __init__(self, runs: Runs, asked: Mapping[str, str]) -> None:
        self._runs = runs
        wrong: list[str] = []
        self._changeable = _changeable(asked.get("scenario", DEFAULT), wrong)
        scenario = self._changeable.scenario
        self._seed = _seed(asked.get("seed", str(scenario.seed)), scenario.seed, wrong)
        given = {run: _given(self._changeable, asked.get(run.lower(), ""), wrong) for run in ("A", "B")}
        times = Times(Grid.of(scenario), scenario.clock.start)
        first = Side("A", self._changeable, times)
        self._sides = {"A": first, "B": Side("B", self._changeable, times, first.price.plot.y_range)}
        self._fields = Fields(self._changeable, given, self._changed)
        self._comparing = asked.get("compare") == "1"
        self._dirty = False  # whether something was set since what is said of it was said
        self._sent = self._drawn = 0
        self._sent_at = 0.0
        self._make_bar()
        self._compare(self._comparing)
        self._say(". ".join(wrong), "wrong")
        self._command = Div(
            text="", sizing_mode="stretch_width", stylesheets=["code { overflow-wrap: anywhere; font-size: 12px; }"]
        )
        self._show_command()

    # ------------------------------------------------------------------ what is on it

    def _make_bar(self) -> None:
        scenario = self._changeable.scenario
        small: dict[str, Any] = {"margin": (4, 6)}
        self._scenario = pn.widgets.Select(name="Scenario", options=_names(), value=scenario.name, width=230, **small)
        self._scenario.jscallback(
            value="window.location.search = '?scenario=' + encodeURIComponent(cb_obj.value)", args={}
        )
        self._go = pn.widgets.Button(
            name="Run", button_type="primary", width=90, stylesheets=[_BUTTON], margin=(22, 4, 4, 6)
        )
        self._step = pn.widgets.Button(name="Step", width=70, stylesheets=[_BUTTON], margin=(22, 4, 4, 4))
        self._again = pn.widgets.Button(name="Restart", width=88, stylesheets=[_BUTTON], margin=(22, 4, 4, 4))
        self._own = pn.widgets.Button(name="All as in the scenario", width=200, stylesheets=[_BUTTON], margin=(4, 8))
        self._seeded = pn.widgets.TextInput(name="Seed (chance)", value=str(self._seed), width=100, **small)
        self._watched = pn.widgets.Select(name="Book shown", options=list(scenario.instruments), width=130, **small)
        self._pace = pn.widgets.Select(name="Pace", options=_PACES, width=150, **small)
        self._compared = pn.widgets.Toggle(
            name="Compare two runs", value=self._comparing, width=150, stylesheets=[_BUTTON], margin=(22, 4, 4, 4)
        )
        self._said = Div(text="", stylesheets=[_WRONG], sizing_mode="stretch_width", margin=(0, 8))
        self._go.on_click(lambda _: self._run_or_pause())
        self._step.on_click(lambda _: self._one_step())
        self._again.on_click(lambda _: self._restart())
        self._own.on_click(lambda _: self._fields.reset())
        self._seeded.param.watch(lambda event: self._take_seed(event.new), "value")
        self._watched.param.watch(lambda event: self._watch(event.new), "value")
        self._pace.param.watch(lambda event: self._tell(Order(pace=event.new)), "value")
        self._compared.param.watch(lambda event: self._compare(event.new), "value")
        self.bar = pn.FlexBox(
            self._scenario, self._go, self._step, self._again, self._compared, self._seeded, self._watched, self._pace,
            sizing_mode="stretch_width", gap="0px", align_items="flex-start",
        )  # fmt: skip

    def template(self) -> pn.Template:
        """The page, to be served."""
        scenario = self._changeable.scenario
        page = _Template((Path(__file__).parent / "page.html").read_text("utf-8"))
        page.add_variable("title", f"exit-cascade: {scenario.name}")
        page.add_variable("about", scenario.description)
        for name, part in {
            "bar": self.bar,
            "said": self._said,
            "controls": pn.Column(self._own, self._fields.view, sizing_mode="stretch_width", margin=0),
            "command": self._command,
        }.items():
            page.add_panel(name, part)
        for side in self._sides.values():
            for name, part in side.roots().items():
                page.add_panel(name, part)
        self._link_browser()
        return page

    def _link_browser(self) -> None:
        """What goes to and fro beside widgets: the beat of pictures, keys, and what is hidden."""
        document = curdoc()
        self._pulse, self._echo = ColumnDataSource({"n": [0]}), ColumnDataSource({"n": [0]})
        self._keys = ColumnDataSource({"key": [""], "count": [0]}, name="keys")
        self._pulse.js_on_change("data", CustomJS(args={"pulse": self._pulse, "echo": self._echo}, code=_DRAWN))
        self._echo.on_change("data", lambda _attr, _old, new: self._note_drawn(int(new["n"][0])))
        self._keys.on_change("data", lambda _attr, _old, new: self._press(str(new["key"][0])))
        margin = any(each.margin for each in self._changeable.scenario.instruments.values())
        self._flags = ColumnDataSource(
            {"compare": [self._comparing], "margin": [margin], "address": [""]}, name="flags"
        )
        flag = CustomJS(
            args={"flags": self._flags},
            code="""
for (const name of ["compare", "margin"]) document.body.dataset[name] = flags.data[name][0] ? "on" : "off";
if (flags.data.address[0]) history.replaceState(null, "", flags.data.address[0]);
""",
        )
        self._flags.js_on_change("data", flag)
        self._visible = ColumnDataSource({"part": [""]}, name="visible")
        self._visible.on_change("data", lambda _attr, _old, new: self._see({str(part) for part in new["part"]}))
        self._sides["A"].price.plot.tags = [self._pulse, self._echo, self._keys, self._flags, self._visible]
        document.js_on_event("document_ready", flag)
        document.add_periodic_callback(self.beat, _BEAT)

    # ------------------------------------------------------------------ the beat

    def beat(self) -> None:
        """Take in what the runs have sent, and send on what is new, if the last picture is on the screen."""
        if self._dirty:
            self._tell_changes()
        for side in self._seen():
            if side.run is not None:
                side.run.look()
        if self._drawn < self._sent and time.monotonic() - self._sent_at < _LOST:
            return
        with _at_once(curdoc()):
            shown = [side.show() for side in self._seen()]
            self._show_state()
            if not any(shown):
                return
            if self._comparing:
                for side, other in zip(self._sides.values(), reversed(self._sides.values()), strict=True):
                    if (seen := other.traded()) is not None:
                        side.price.show_other(seen)
            self._fit_prices()
            self._sent += 1
            self._sent_at = time.monotonic()
            self._pulse.data = {"n": [self._sent]}

    def _fit_prices(self) -> None:
        """Have the axis of prices, which both runs share, reach as far as both have gone."""
        lows, highs = zip(*(side.price.bounds for side in self._seen()), strict=True)
        low, high = min(lows), max(highs)
        if low <= high:
            room = 0.05 * (high - low) or 1e-4 * high
            axis, wanted = self._sides["A"].price.plot.y_range, (low - room, high + room)
            if (axis.start, axis.end) != wanted:
                axis.update(start=wanted[0], end=wanted[1])

    def _see(self, parts: set[str]) -> None:
        """Note which pictures can be seen."""
        for side in self._sides.values():
            side.see(parts)
        self._fit_prices()

    def _note_drawn(self, number: int) -> None:
        self._drawn = number

    def _seen(self) -> list[Side]:
        return list(self._sides.values()) if self._comparing else [self._sides["A"]]

    @property
    def _running(self) -> bool:
        return any(side.going and (side.newest is None or side.newest.running) for side in self._seen())

    def _show_state(self) -> None:
        name = "Pause" if self._running else "Run"
        if self._go.name != name:
            self._go.name = name

    # ------------------------------------------------------------------ what the visitor does

    def _press(self, key: str) -> None:
        act = {"r": self._run_or_pause, "s": self._one_step, "0": self._restart, "c": self._toggle}.get(key)
        if act is not None:
            act()

    def _toggle(self) -> None:
        self._compared.value = not self._compared.value

    def _run_or_pause(self) -> None:
        if self._running:
            self._tell(Order(running=False))
        elif self._begin():
            self._tell(Order(running=True, pace=self._pace.value))

    def _one_step(self) -> None:
        """One bar: less is not seen."""
        grid = Grid.of(self._changeable.scenario)
        if self._begin():
            self._tell(Order(steps=max(1, round(grid.bar / self._changeable.scenario.clock.step))))

    def _restart(self) -> None:
        for side in self._seen():
            side.end()
        for side in self._sides.values():
            side.price.clear_other()
        self._run_or_pause()

    def _begin(self) -> bool:
        """Begin what has not begun, or is over; whether there is something to be told now."""
        if any(side.going for side in self._seen()) and all(side.run is not None for side in self._seen()):
            return True
        fresh = [side for side in self._seen() if not side.going]
        try:
            for side in fresh:
                side.begin(self._runs, self._seed, self._fields.settings(side.name))
        except (Busy, ScenarioError) as error:
            for side in fresh:
                side.end()
            self._say(str(error), "wrong")
            return False
        self._say("", "note")
        return True

    def _tell(self, order: Order) -> None:
        for side in self._seen():
            side.tell(order)

    def _watch(self, instrument: str) -> None:
        for side in self._sides.values():
            side.watch(instrument)
            side.price.clear_other()

    def _compare(self, on: bool) -> None:
        self._comparing = on
        self._fields.compare(on)
        if not on:
            self._sides["B"].end()
            self._sides["A"].price.clear_other()
        if hasattr(self, "_flags"):
            self._flag(compare=on)
            self._remember()
            if on and self._sides["A"].run is not None:
                self._say(
                    "Change something of run B, and press Restart: both runs begin anew with the same seed.", "note"
                )

    def _take_seed(self, text: str) -> None:
        wrong: list[str] = []
        self._seed = _seed(text, self._seed, wrong)
        self._say(". ".join(wrong), "wrong")
        if not wrong:
            self._changed()

    def _changed(self) -> None:
        """A setting has changed: it counts from the next start."""
        self._dirty = True

    def _tell_changes(self) -> None:
        """Say what is set, once after many changes."""
        self._dirty = False
        self._remember()
        self._show_command()
        if any(side.run is not None for side in self._seen()):
            self._say("Changed. It counts from the next start: press Restart.", "note")

    # ------------------------------------------------------------------ what is said and kept

    def _say(self, text: str, kind: str) -> None:
        self._said.text = (
            f'<span class="{kind}" role="{"alert" if kind == "wrong" else "status"}">{escape(text)}</span>'
            if text
            else ""
        )

    def _show_command(self) -> None:
        lines = {run: self._changeable.command(self._seed, self._fields.settings(run)) for run in self._sides}
        shown = list(lines.items()) if self._comparing else [("A", lines["A"])]
        text = "".join(f"<p>{run}: <code>{escape(line)}</code></p>" for run, line in shown)
        self._command.text = f"<details><summary>The same from the command line</summary>{text}</details>"

    def _remember(self) -> None:
        """Put into the address what is set."""
        asked = {"scenario": self._changeable.scenario.name, "seed": str(self._seed)}
        for run in ("A", "B") if self._comparing else ("A",):
            if settings := self._fields.settings(run):
                asked[run.lower()] = ",".join(
                    f"{name}:{value:g}" if isinstance(value, float | int) else f"{name}:{value}"
                    for name, value in settings.items()
                )
        if self._comparing:
            asked["compare"] = "1"
        self._flag(address=f"?{urlencode(asked, safe=':,')}")

    def _flag(self, **flags: Any) -> None:
        """Tell the browser what is shown, or what stands in its address line."""
        self._flags.data = {**self._flags.data, **{name: [value] for name, value in flags.items()}}

    def close(self) -> None:
        """End what the visitor has begun."""
        for side in self._sides.values():
            if side.run is not None:
                side.run.close()


def _names() -> dict[str, str]:
    """Scenarios that can be chosen, the one that is quick to understand first."""
    names = list(scenario_files())
    return {name: name for name in sorted(names, key=lambda name: (name not in (DEFAULT, "first-hour"), name))}


def _changeable(name: str, wrong: list[str]) -> Changeable:
    """A kept scenario, never a file; the usual one where there is none of that name."""
    if name not in scenario_files():
        wrong.append(f"There is no scenario {name[:60]!r}; this is {DEFAULT}")
        name = DEFAULT
    return Changeable(name)


def _seed(text: str, before: int, wrong: list[str]) -> int:
    digits = text.strip()
    if digits.isdecimal() and len(digits) <= 16 and int(digits) <= MOST_SEED:
        return int(digits)
    wrong.append(f"Seed: write a whole number from 0 on, such as {before}")
    return before


def _given(changeable: Changeable, text: str, wrong: list[str]) -> dict[str, Value]:
    """Settings written as `depth:0.5,leverage:10`; what is wrong is left out and said."""
    given: dict[str, Value] = {}
    for part in filter(None, text.split(",")):
        name, _, written = part.partition(":")
        try:
            value: Value = float(written)
        except ValueError:
            value = written
        try:
            given |= changeable.settings({name: value})
        except ScenarioError as error:
            wrong.append(str(error)[:200])
    return given
