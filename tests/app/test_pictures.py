"""Pictures: what is sent piece by piece is in the end what a page has that begins late; and words that say what is shown."""

import numpy as np
import pytest

from experiments.app.controls import Changeable
from experiments.app.pictures import Times
from experiments.app.side import Side
from experiments.app.snapshot import Grid
from experiments.app.words import facts_html, legend_html, stages_html


class Given:
    """A run that shows what it is given."""

    def __init__(self):
        self.newest, self.failed = None, ""

    def tell(self, order):
        pass

    def close(self):
        self.newest = None


@pytest.fixture
def side(scenario):
    changeable = Changeable("february-2026-quick")
    made = Side("A", changeable, Times(Grid.of(scenario), scenario.clock.start))
    made.run = Given()
    return made


def show(side, snapshots):
    for snapshot in snapshots:
        side.run.newest = snapshot
        assert side.show()
    assert not side.show(), "nothing is new any more"


def sources(side):
    """What the browser has in the end of all that grows."""
    sent = {"line": side.price.line, **side.price.marks, "over": side._volume.over, "interest": side._interest.source}
    return {name: {key: list(column) for key, column in source.data.items()} for name, source in sent.items()}


def test_pieces_add_up(side, scenario, watched):
    snapshots, _ = watched
    show(side, snapshots)
    piece_by_piece = sources(side)
    last = snapshots[-1].traded
    assert piece_by_piece["line"]["mid"] == list(last["btc-spot"].price)
    assert side.price.bounds == (min(last["btc-spot"].price), max(last["btc-spot"].price))
    bets = last["btc-perp"]
    assert sum(piece_by_piece["long"]["usd"]) == pytest.approx(bets.longs[:-1].sum()) and bets.longs.sum() > 0
    assert np.allclose(piece_by_piece["interest"]["y"], bets.bars["open_interest"] / 1e9)
    tops = piece_by_piece["over"]
    heights = sum(np.subtract(tops["top"], tops["bottom"])) + sum(
        np.subtract(side._volume.going.data["top"], side._volume.going.data["bottom"])
    )
    assert heights * 1e6 == pytest.approx(sum(each.sum() for each in last["btc-spot"].volume.values()))

    side.clear()
    assert side.price.bounds[0] > side.price.bounds[1], "nothing is between them"
    assert not any(column for source in sources(side).values() for column in source.values())
    show(side, snapshots[-1:])
    assert sources(side) == piece_by_piece


def test_what_cannot_be_seen_catches_up(side, watched):
    snapshots, _ = watched
    side.see({"price_a", "ladder_b"})
    show(side, snapshots)
    assert not len(side._volume.over.data["t"]) and len(side.price.line.data["t"])
    side.see({"price_a", "volume_a"})
    assert len(side._volume.over.data["t"])


def test_another_instrument_is_shown_from_its_beginning(side, watched):
    snapshots, _ = watched
    show(side, snapshots[:10])
    side.watch("btc-perp")
    show(side, snapshots[-1:])  # the last has all instruments
    assert side.price.line.data["mid"][-1] == snapshots[-1].traded["btc-perp"].price[-1]


def test_a_run_that_failed_says_why(side):
    side.run.failed = "it <stopped>"
    assert not side.show()
    assert "it &lt;stopped&gt;" in side._status.text


def test_lamps_say_order_and_nearness(scenario):
    times = Times(Grid.of(scenario), scenario.clock.start)
    stages = [
        {"stage": "panic", "onset": 3600.0, "near": 1.0},
        {"stage": "liquidity_drought", "onset": None, "near": 0.4},
    ]
    html = stages_html(stages, times, 7200.0, 2700.0)
    assert html.count('class="lit"') == 1 and "<b>1.</b> 5 Feb 15:00" in html and "40% of the way" in html
    assert "first 0.75 h" in stages_html([], times, 10.0, 2700.0)


FACT = {
    "observation": "x", "quantity": "BTC price", "unit": "USD", "observed": 60_000.0, "low": 59_500.0, "high": None,
    "simulated": 61_000.0, "least": 0.0, "most": 0.0, "gap": 0.0, "runs": 1, "role": "predicted", "inside": True, "note": "", "measure": "low",
    "start": "2026-02-05T00:00:00+00:00", "end": "2026-02-06T23:59:00+00:00",
}  # fmt: skip


def test_facts_say_their_role_and_whether_they_are_met():
    html = facts_html([FACT, {**FACT, "role": "input", "inside": False}], True)
    assert "1 of 1 fitted or predicted" in html and "put in" in html and "59,500" in html
    assert "BTC price, lowest" in html
    assert "only what was put in" in facts_html([{**FACT, "role": "input"}], True)
    assert "no observations" in facts_html([], False) and "Nothing yet" in facts_html([], True)
    assert "repeating-linear-gradient" in legend_html(["liquidation"]) and "none" in legend_html(["noise"])


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("05T22:30", "05T22:30", "5 Feb 22:30"),
        ("05T00:00", "06T00:00", "5 Feb"),
        ("05T00:00", "06T23:59", "5 Feb to 6 Feb"),  # a minute before midnight is midnight
        ("05T14:30", "05T21:00", "5 Feb 14:30 to 21:00"),
        ("04T21:00", "05T21:00", "4 Feb 21:00 to 5 Feb 21:00"),
    ],
)
def test_facts_say_when(start, end, said):
    times = {"start": f"2026-02-{start}:00+00:00", "end": f"2026-02-{end}:00+00:00"}
    assert f'<span class="on">{said}</span>' in facts_html([FACT | times], True)
