"""How a control is shown: a slider with a box beside it that takes typed values, or a choice; what is wrong is said below."""

from collections.abc import Callable, Mapping

import panel as pn

from experiments.app.controls import ON, Changeable, Control, Value

_STYLE = """
:host { font-size: 14px; }
.wrong { color: #a33c00; font-weight: 600; }
.wrong::before { content: "! "; }
"""
_SLIDER = ":host { min-width: 90px; } .bk-slider-title { display: none; }"
# What is written beside it is enough for who sees; the label is for who does not
_BOX = "label { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }"
_SWITCH_STYLE = ":host { font-size: 14px; } label { gap: 6px; }"


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
        self._linking = False  # whether slider or box is being set because the other was
        self._said = pn.pane.HTML("", stylesheets=[_STYLE], margin=(0, 8), visible=False)
        label = f"{control.label}, run {run}"
        if set(control.choices) == {"on", "off"}:
            # A group of one: of a single checkbox the text is no part, neither to a click nor to who listens
            self._widgets = [
                pn.widgets.CheckBoxGroup(
                    options=[control.label],
                    value=[control.label] if value == ON else [],
                    stylesheets=[_SWITCH_STYLE],
                    margin=(2, 8),
                )
            ]
            self._widgets[0].param.watch(lambda event: self._set("on" if event.new else "off"), "value")
        elif control.choices:
            options = {f"{name}: {about}": name for name, about in control.choices.items()}
            self._widgets = [
                pn.widgets.Select(name=label, options=options, value=value, sizing_mode="stretch_width", margin=(2, 8))
            ]
            self._widgets[0].param.watch(lambda event: self._set(event.new), "value")
        else:
            self._widgets = list(self._slider(control, value, label))
        self.view = pn.Column(
            pn.Row(*self._widgets, sizing_mode="stretch_width", margin=0),
            self._said,
            sizing_mode="stretch_width",
            margin=0,
        )

    def _slider(self, control: Control, value: Value, label: str) -> tuple[pn.widgets.Widget, pn.widgets.Widget]:
        whole = control.step >= 1
        kind = pn.widgets.IntSlider if whole else pn.widgets.FloatSlider
        self._bar = kind(
            name=label, start=int(control.low) if whole else control.low, end=int(control.high) if whole else control.high,
            step=int(control.step) if whole else control.step, value=int(value) if whole else float(value),
            show_value=False, sizing_mode="stretch_width", margin=(4, 12), stylesheets=[_SLIDER],
        )  # fmt: skip
        self._box = pn.widgets.TextInput(
            name=label,
            value=f"{value:g}",
            width=62,
            margin=(0, 8, 0, 0),
            placeholder=f"{self._own:g}",
            stylesheets=[_BOX],
        )
        self._bar.param.watch(lambda event: self._set(round(event.new, 6)), "value_throttled")
        self._bar.param.watch(lambda event: self._show(event.new), "value")
        self._box.param.watch(lambda event: self._type(event.new), "value")
        return self._bar, self._box

    def _show(self, value: Value) -> None:
        """Write beside the slider where it stands; the slider itself is left alone, as it may have gone on since."""
        if not self._linking:
            self._linking = True
            self._box.value = f"{value:g}"
            self._linking = False

    def _type(self, text: str) -> None:
        """Take what was typed, or say what is wrong with it."""
        try:
            value: object = float(text.replace(",", "."))
        except ValueError:
            value = text
        wrong = self._control.wrong(value)
        self._said.object, self._said.visible = (
            f'<span class="wrong" role="alert">{wrong}</span>' if wrong else "",
            bool(wrong),
        )
        if not wrong and not self._linking:
            number = int(value) if self._control.step >= 1 else float(value)  # type: ignore[call-overload, arg-type]
            self._linking = True
            self._bar.value = number
            self._linking = False
            self._set(number)

    def _set(self, value: Value) -> None:
        if value != self.value:
            self.value = value
            self._changed()

    def reset(self) -> None:
        """Back to what the scenario says."""
        if hasattr(self, "_bar"):
            self._box.value = f"{self._own:g}"
            self._bar.value = self._own
        else:
            self._widgets[0].value = [self._control.label] if set(self._control.choices) == {"on", "off"} else self._own
        self._set(self._own)


class Fields:
    """All controls of the two runs, beside each other.

    Args:
        changeable: What the scenario lets one change.
        given: What is set, by run.
        changed: Called with the run when one of its values has changed.
    """

    def __init__(
        self, changeable: Changeable, given: Mapping[str, Mapping[str, Value]], changed: Callable[[str], None]
    ) -> None:
        self._changeable = changeable
        self._fields = {
            run: {
                name: Field(
                    control,
                    changeable.own[name],
                    given[run].get(name, changeable.own[name]),
                    lambda run=run: changed(run),
                    run,
                )
                for name, control in changeable.controls.items()
            }
            for run in given
        }
        self._others: list[pn.Row] = []
        self.view = pn.Column(sizing_mode="stretch_width", margin=0)
        switches = []
        for name, control in changeable.controls.items():
            row = self._row(name, control)
            (switches if set(control.choices) == {"on", "off"} else self.view).append(row)
        if switches:
            title = "Links of the chain" if changeable.scenario.links else "Channels between markets"
            self.view.append(pn.pane.HTML(f"<h3>{title}</h3>", stylesheets=[_TITLE], margin=(8, 8, 0, 8)))
            self.view.extend(switches)

    def _row(self, name: str, control: Control) -> pn.Column:
        about = pn.pane.HTML(
            f"<b>{control.label}</b>{f' <small>({control.unit})</small>' if control.unit else ''}<p>{control.about}</p>",
            stylesheets=[_TITLE], margin=(6, 8, 0, 8), sizing_mode="stretch_width",
        )  # fmt: skip
        rows = [
            pn.Row(self._badge(run), fields[name].view, sizing_mode="stretch_width", margin=0)
            for run, fields in self._fields.items()
        ]
        rows[1].visible = False
        self._others.append(rows[1])
        return pn.Column(about, *rows, sizing_mode="stretch_width", margin=0)

    @staticmethod
    def _badge(run: str) -> pn.pane.HTML:
        colour = "#222222" if run == "A" else "#777777"
        return pn.pane.HTML(
            f'<span style="color:{colour};font-weight:700" aria-hidden="true">{run}</span>',
            width=14,
            margin=(4, 0, 0, 8),
        )

    def compare(self, on: bool) -> None:
        """Show the second run's controls, or only the first's."""
        for view in self._others:
            view.visible = on

    def settings(self, run: str) -> dict[str, Value]:
        """What is set for a run and differs from the scenario."""
        return self._changeable.settings({name: field.value for name, field in self._fields[run].items()})

    def reset(self) -> None:
        """All back to what the scenario says."""
        for fields in self._fields.values():
            for field in fields.values():
                field.reset()


_TITLE = """
:host { font-size: 14px; line-height: 1.3; }
p { margin: 2px 0 0 0; color: #555; font-size: 13px; }
h3 { margin: 6px 0 0 0; font-size: 15px; }
small { color: #555; }
"""
