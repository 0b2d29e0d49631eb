"""The figures: drawn, with units, and with one colour for each reason."""

from pathlib import Path

import pytest
from matplotlib.image import imread

import abm
from abm.exchange.messages import Reason
from analysis.figures import REASONS, draw, price_and_depth, volume_by_reason


@pytest.fixture(scope="module")
def result() -> abm.Result:
    return abm.run(abm.load("first-hour", clock={"end": "2026-02-05T00:05Z"}))


def test_every_reason_is_drawn_in_its_own_way() -> None:
    assert set(REASONS) == {reason.name.lower() for reason in Reason}
    looks = [(tuple(colour), hatch) for _, colour, hatch in REASONS.values()]
    assert len(set(looks)) == len(looks)


def test_axes_say_their_units(result: abm.Result) -> None:
    price, depth = price_and_depth(result, "btc-spot").axes
    assert "USD" in price.get_ylabel()
    assert "million USD" in depth.get_ylabel()
    assert depth.get_xlabel() == "time (UTC), 5 February 2026"
    (volume,) = volume_by_reason(result, "btc-spot").axes
    assert volume.get_ylabel() == "volume (BTC a minute)"
    heights = [drawn.get_data().values - drawn.get_data().baseline for drawn in volume.patches]
    taken = sum(height.sum() for height in heights if height.sum() > 0)
    given = sum(height.sum() for height in heights if height.sum() < 0)
    assert taken == pytest.approx(-given) == pytest.approx(result.summary["instruments"]["btc-spot"]["volume"])


def test_the_same_reason_has_the_same_colour_up_and_down(result: abm.Result) -> None:
    (axes,) = volume_by_reason(result, "btc-spot").axes
    colours = {drawn.get_facecolor()[:3] for drawn in axes.patches}
    assert colours and colours <= {tuple(colour) for _, colour, _ in REASONS.values()}
    legend = axes.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert len(labels) == len(set(labels))
    assert "market making" in labels


def test_pictures_are_written(result: abm.Result, tmp_path: Path) -> None:
    paths = draw(result, tmp_path)
    assert [path.name for path in paths] == ["price.png", "volume_by_reason.png"]
    for path in paths:
        assert imread(path).std() > 0.02
