"""How a control is shown: a slider with a box beside it that takes typed values, or a choice; what is wrong is said below.

These are Bokeh's own widgets: what the server is told of them comes one after the other.
"""

from collections.abc import Callable, Mapping
from typing import Any

from bokeh.models import CheckboxGroup, Column, Div, Row, Select, Slider, TextInput

from experiments.app.controls import OFF, ON, Changeable, Control, Value

_TEXT = """
:host { font-size: 14px; line-height: 1.3; }
p { margin: 2px 0 0 0; color: #555; font-size: 13px; }
h3 { margin: 6px 0 0 0; font-size: 15px; }
small { color: #555; }
.wrong { color: #a33c00; font-weight: 600; }
.wrong::before { content: "! "; }
"""
_SLIDER = ":host { min-width: 90px; } .bk-slider-title { display: none; }"
# What is written above it is enough for who sees; the label is for who does not
_BOX = "label { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }"
_SWITCH = ":host { font-size: 14px; }"


class Field:
    """One control of one run.

    Args:
        control: What it is.
        own: What it stands at in the scenario.
        value: What it stands at now.
        changed: Called when it has another value.
        run: Name of the run, for who cannot see where it stands.
    """

    def __init__(self, control: Control, own: Value, value: Value, changed: Callable[[], None], run: str) -> None:
        self._control, self._own, self._changed, self.value = control, own, changed, value
        self._linking = False  # whether a widget is being set because another was
        self.said = Div(text="", stylesheets=[_TEXT], margin=(0, 8), sizing_mode="stretch_width")
        label = f"{control.label}, run {run}"
        if set(control.choices) == {ON, OFF}:
            widgets = self._switch()
        elif control.choices:
            widgets = self._choice(label)
        else:
            widgets = self._number(label)
        self.view = Column(
            children=[Row(children=widgets, sizing_mode="stretch_width"), self.said], sizing_mode="stretch_width"
        )

    def _switch(self) -> list[Any]:
        self.box = CheckboxGroup(
            labels=[self._control.label], active=[0] if self.value == ON else [], stylesheets=[_SWITCH], margin=(2, 8)
        )
        self.box.on_change("active", lambda _attr, _old, new: self._set(ON if new else OFF))
        return [self.box]

    def _choice(self, label: str) -> list[Any]:
        options = [(name, f"{name}: {about}") for name, about in self._control.choices.items()]
        self.box = Select(
            title=label,
            options=options,
            value=self.value,
            sizing_mode="stretch_width",
            margin=(2, 8),
            stylesheets=[_BOX],
        )
        self.box.on_change("value", lambda _attr, _old, new: self._set(new))
        return [self.box]

    def _number(self, label: str) -> list[Any]:
        control = self._control
        self.slider = Slider(
            title=label, start=control.low, end=control.high, step=control.step, value=self.value, show_value=False,
            sizing_mode="stretch_width", margin=(4, 12), stylesheets=[_SLIDER],
        )  # fmt: skip
        self.box = TextInput(title=label, value=f"{self.value:g}", width=62, margin=(0, 8, 0, 0), stylesheets=[_BOX])
        self.slider.on_change("value", lambda _attr, _old, new: self._slide(new))
        self.box.on_change("value", lambda _attr, _old, new: self._type(new))
        return [self.slider, self.box]

    def _slide(self, value: float) -> None:
        """Take where the slider stands; it is left alone, as it may have gone on since."""
        if not self._linking:
            self._link(self.box, f"{value:g}")
            self._say("")
            self._set(round(value, 6))

    def _type(self, text: str) -> None:
        """Take what was typed, or say what is wrong with it."""
        if self._linking:
            return
        try:
            value: Any = float(text.replace(",", "."))
        except ValueError:
            value = text
        wrong = self._control.wrong(value)
        self._say(wrong)
        if not wrong:
            self._link(self.slider, value)
            self._set(value)

    def _link(self, widget: Any, value: Any) -> None:
        self._linking = True
        widget.value = value
        self._linking = False

    def _say(self, wrong: str) -> None:
        text = f'<span class="wrong" role="alert">{wrong}</span>' if wrong else ""
        if text != self.said.text:
            self.said.text = text

    def _set(self, value: Value) -> None:
        if value != self.value:
            self.value = value
            self._changed()

    def reset(self) -> None:
        """Back to what the scenario says."""
        if isinstance(self.box, CheckboxGroup):
            self.box.active = [0] if self._own == ON else []
        else:
            self.box.value = self._own if isinstance(self.box, Select) else f"{self._own:g}"


class Fields:
    """All controls of the two runs, beside each other.

    Args:
        changeable: What the scenario lets one change.
        given: What is set, by run.
        changed: Called when a value has changed.
    """

    def __init__(
        self, changeable: Changeable, given: Mapping[str, Mapping[str, Value]], changed: Callable[[], None]
    ) -> None:
        self._changeable = changeable
        self._fields = {
            run: {
                name: Field(control, changeable.own[name], set_.get(name, changeable.own[name]), changed, run)
                for name, control in changeable.controls.items()
            }
            for run, set_ in given.items()
        }
        self._others: list[Row] = []
        numbers, switches = [], []
        for name, control in changeable.controls.items():
            (switches if set(control.choices) == {ON, OFF} else numbers).append(self._row(name, control))
        if switches:
            title = "Links of the chain" if changeable.scenario.links else "Channels between markets"
            switches.insert(0, Div(text=f"<h3>{title}</h3>", stylesheets=[_TEXT], margin=(8, 8, 0, 8)))
        self.view = Column(children=[*numbers, *switches], sizing_mode="stretch_width")

    def _row(self, name: str, control: Control) -> Column:
        unit = f" <small>({control.unit})</small>" if control.unit else ""
        about = Div(
            text=f"<b>{control.label}</b>{unit}<p>{control.about}</p>", stylesheets=[_TEXT], margin=(6, 8, 0, 8),
            sizing_mode="stretch_width",
        )  # fmt: skip
        rows = [
            Row(children=[_badge(run), fields[name].view], sizing_mode="stretch_width")
            for run, fields in self._fields.items()
        ]
        self._others += rows[1:]
        return Column(children=[about, *rows], sizing_mode="stretch_width")

    def compare(self, on: bool) -> None:
        """Show the second run's controls, or only the first's."""
        for row in self._others:
            row.visible = on

    def settings(self, run: str) -> dict[str, Value]:
        """What is set for a run and differs from the scenario."""
        return self._changeable.settings({name: field.value for name, field in self._fields[run].items()})

    def reset(self) -> None:
        """All back to what the scenario says."""
        for fields in self._fields.values():
            for field in fields.values():
                field.reset()


def _badge(run: str) -> Div:
    colour = "#222222" if run == "A" else "#777777"
    return Div(
        text=f'<span style="color:{colour};font-weight:700" aria-hidden="true">{run}</span>',
        width=14,
        margin=(4, 0, 0, 8),
    )
