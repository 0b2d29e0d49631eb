"""One of the two runs of a page: its process, its pictures, and what is said of it."""

from collections.abc import Collection, Mapping
from html import escape
from typing import Any

from bokeh.models import Div

from abm.scenario import Scenario
from experiments.app.controls import Changeable, Value
from experiments.app.network import ContagionNetwork
from experiments.app.pictures import (
    GREEN,
    INK,
    Depth,
    Ladder,
    LiquidationMap,
    OverTime,
    Price,
    Times,
    Volume,
)
from experiments.app.runs import Run, Runs
from experiments.app.snapshot import Snapshot, Traded, partner
from experiments.app.words import facts_html, legend_html, stages_html
from experiments.app.worker import Order

_HTML = """
:host { font-size: 14px; line-height: 1.35; container-type: inline-size; }
.bk-clearfix { display: block; width: 100%; }
p { margin: 2px 0; color: #555; font-size: 13px; }
ol.stages { display: grid; grid-template-columns: repeat(3, 1fr); gap: 6px; list-style: none; margin: 2px 0; padding: 0; }
@container (min-width: 720px) { ol.stages { grid-template-columns: repeat(6, 1fr); } }
@container (max-width: 420px) { ol.stages { grid-template-columns: repeat(2, 1fr); } }
ol.stages li { border: 2px solid #bbb; border-radius: 6px; padding: 4px 8px 6px; position: relative; overflow: hidden; color: #444; }
ol.stages li.lit { border-color: #d55e00; background: #d55e00; color: #fff; font-weight: 600; }
ol.stages .name { display: block; }
ol.stages .name::first-letter { text-transform: uppercase; }
ol.stages .bar { position: absolute; left: 0; bottom: 0; height: 5px; background: #de8f05; }
ol.stages .when { font-size: 13px; }
.scroll { max-height: 380px; overflow: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { text-align: right; padding: 2px 6px; border-bottom: 1px solid #e5e5e5; white-space: nowrap; }
th:first-child { text-align: left; }
th[scope=row] { font-weight: 400; white-space: normal; }
.on { color: #555; margin-left: 6px; }
@container (max-width: 720px) { .on { display: block; margin-left: 0; } }
@container (max-width: 420px) { th, td { padding: 2px 3px; white-space: normal; } table { font-size: 12px; } }
tr.in td:last-child { color: #0173b2; font-weight: 700; }
tr.out td:last-child { color: #a33c00; font-weight: 700; }
.big { font-size: 17px; font-weight: 700; }
.bad { color: #a33c00; font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 12px; }
.key i { display: inline-block; width: 16px; height: 12px; margin-right: 5px; vertical-align: -1px; }
progress { width: 100%; height: 8px; accent-color: #0173b2; }
"""


class Side:
    """One run as it is shown.

    Args:
        name: A or B.
        changeable: The scenario and what can be changed of it.
        times: The axis of time.
        prices: The axis of prices of the other run, which this one shares.
    """

    def __init__(self, name: str, changeable: Changeable, times: Times, prices: Any = None) -> None:
        self.name, self._changeable, self._times = name, changeable, times
        self._scenario: Scenario = changeable.scenario
        self.run: Run | None = None
        self.settings: Mapping[str, Value] = {}
        """What is set in the run that is shown."""
        self.price = Price(times, prices)
        self._ladder, self._depth, self._map = Ladder(), Depth(), LiquidationMap()
        self._volume, self._network = Volume(times), ContagionNetwork()
        self._interest = OverTime(times, "open_interest", "bn USD", INK, 1e9)
        self._funding = OverTime(times, "funding", "% a payment", GREEN)
        self._status, self._stages, self._facts, self._legend = (
            Div(text="", stylesheets=[_HTML], sizing_mode="stretch_width", margin=0) for _ in range(4)
        )
        self._shown: Snapshot | None = None
        self._seen = {name.rpartition("_")[0] for name in self.roots()}  # what can be seen; all until the browser tells
        self.watch(next(iter(self._scenario.instruments)))
        self.clear()

    def roots(self) -> dict[str, Any]:
        """What the page shows, by name."""
        parts = {
            "status": self._status,
            "stages": self._stages,
            "facts": self._facts,
            "legend": self._legend,
            "price": self.price.plot,
            "ladder": self._ladder.plot,
            "depth": self._depth.plot,
            "map": self._map.plot,
            "volume": self._volume.plot,
            "network": self._network.plot,
            "interest": self._interest.plot,
            "funding": self._funding.plot,
        }
        return {f"{part}_{self.name.lower()}": shown for part, shown in parts.items()}

    # ------------------------------------------------------------------ the run

    @property
    def newest(self) -> Snapshot | None:
        """The last that is known of the run; None where there is none yet."""
        return self.run.newest if self.run is not None else None

    @property
    def going(self) -> bool:
        """Whether there is a run that is not over."""
        return self.run is not None and not self.run.failed and not (self.newest is not None and self.newest.over)

    def begin(self, runs: Runs, seed: int, settings: Mapping[str, Value]) -> None:
        """Begin a run, which waits for its first order.

        Raises:
            Busy: No further one may begin.
            ScenarioError: It cannot be run so.
        """
        self._changeable.load(seed, settings)  # what is wrong is said here, and not in a process of its own
        self.end()
        self.run = runs.begin(self._scenario.name, self._changeable.overrides(seed, settings))
        self.settings = dict(settings)
        self.tell(Order(watched=self._watched))

    def tell(self, order: Order) -> None:
        """Give the run an order, if there is one."""
        if self.going and self.run is not None:
            self.run.tell(order)

    def end(self) -> None:
        """End the run, and forget it."""
        if self.run is not None:
            self.run.close()
        self.run = None
        self.clear()

    # ------------------------------------------------------------------ what is shown

    def watch(self, instrument: str) -> None:
        """Show another instrument."""
        self._watched, self._bets = instrument, partner(self._scenario, instrument)
        self._map.named(self._bets)
        self._interest.named(self._bets)
        self.price.expect(self._scenario.instruments[instrument].reference_price)
        self.tell(Order(watched=instrument))
        self._clear_traded()
        self._shown = None

    def clear(self) -> None:
        """Show a run that has not begun."""
        self._shown = None
        self._clear_traded()
        self._stages.text = stages_html([], self._times, 0.0, self._times.grid.calm)
        self._facts.text = facts_html([], bool(self._scenario.observations))
        self._status.text = f"Not begun. {self._told()}"

    def _clear_traded(self) -> None:
        for picture in (self.price, self._volume, self._interest, self._funding):
            picture.clear()
        self._legend.text = ""

    def show(self) -> bool:
        """Show what is new; whether anything was."""
        if self.run is None:
            return False
        if self.run.failed:
            _say(self._status, f'<span class="bad" role="alert">Stopped: {escape(self.run.failed)}</span>')
            return False
        new = self.run.newest
        if new is None:
            _say(self._status, "Setting up: traders open their accounts ...")
            return False
        if new is self._shown or not {self._watched, self._bets} <= new.traded.keys():
            return False
        before, self._shown = self._shown, new
        seen, bets = new.traded[self._watched], new.traded[self._bets]
        self._status.text = self._said_of(new, seen, bets)
        if before is None or new.stages != before.stages:
            self._stages.text = stages_html(new.stages, self._times, new.seconds, self._times.grid.calm)
        self._draw(new, seen, bets)
        return True

    def _draw(self, new: Snapshot, seen: Traded, bets: Traded) -> None:
        """Draw what can be seen; what cannot catches up when it is looked at."""
        pictures = {
            "ladder": lambda: self._ladder.show(seen),
            "depth": lambda: self._depth.show(seen),
            "map": lambda: self._map.show(bets),
            "volume": lambda: self._show_volume(seen),
            "interest": lambda: (self._interest.show(bets), self._funding.show(bets)),
            "price": lambda: self.price.show(seen, bets, new.seconds),
            "network": lambda: self._network.show(new.nodes, new.edges),
            "facts": lambda: _say(self._facts, facts_html(new.facts, bool(self._scenario.observations))),
        }
        for name, show in pictures.items():
            if name in self._seen:
                show()

    def _show_volume(self, seen: Traded) -> None:
        self._volume.show(seen)
        _say(self._legend, legend_html(self._volume.reasons))

    def see(self, parts: Collection[str]) -> None:
        """Note what of this run can be seen now, and draw what has not been drawn while it could not."""
        mine = {part.rpartition("_")[0] for part in parts if part.endswith(f"_{self.name.lower()}")}
        fresh, self._seen = mine - self._seen, mine
        if fresh and self._shown is not None:
            self._draw(self._shown, self._shown.traded[self._watched], self._shown.traded[self._bets])

    def traded(self) -> Traded | None:
        """What is known of the instrument that is shown."""
        return self._shown.traded.get(self._watched) if self._shown is not None else None

    def _said_of(self, new: Snapshot, seen: Traded, bets: Traded) -> str:
        first, low = float(seen.price[0]), min(float(seen.price.min()), seen.now)
        forced = float(bets.longs.sum() + bets.shorts.sum())
        parts = [
            f'<span class="big">{self._times.written(new.seconds)} UTC &nbsp; {seen.now:,.2f} USD &nbsp; {seen.now / first - 1:+.1%}</span>',
            f"lowest {low:,.2f} ({low / first - 1:+.1%})",
        ]
        if bets.map is not None:
            parts.append(f"closed by force: {forced / 1e6:,.0f} million USD, {bets.accounts:,} times")
        if new.over:
            parts.append("over; every coin and cent accounted for" if new.passed else "over; AUDIT FAILED")
        elif not new.running:
            parts.append("paused")
        elif new.wall > 0.5:
            parts.append(f"{new.seconds / new.wall / 3600:,.1f} hours of market a second")
        bar = f'<progress max="1" value="{new.seconds / self._times.grid.total:.3f}" aria-label="Part of the run that is over"></progress>'
        return f"{parts[0]} &nbsp; {'; '.join(parts[1:])}. {self._told()}{bar}"

    def _told(self) -> str:
        """What is other than in the scenario."""
        if not self.settings:
            return "As in the scenario."
        controls, own = self._changeable.controls, self._changeable.own
        said = [
            f"{controls[name].label}: {_short(value)} (scenario: {_short(own[name])})"
            for name, value in self.settings.items()
        ]
        return f"<b>Changed: {escape('; '.join(said))}.</b>"


def _say(where: Div, text: str) -> None:
    """Say something, once."""
    if where.text != text:
        where.text = text


def _short(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:g}"
