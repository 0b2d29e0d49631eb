"""Links of a scenario: switched off alone and together, and refused where they do not go together."""

from pathlib import Path
from typing import Any

import pytest

from abm.scenario import Scenario, ScenarioError, load, load_with, scenario_files

LINKS: dict[str, Any] = {
    "flows": {"about": "money leaves funds", "off": {"traders.etf": None}},
    "buyers": {"off": {"traders.retail": None, "traders.noise.coins": 3}},
    "depth": {"off": {"traders.market_makers.books.btc-spot": {"depth_usd": 5e6}}},
    "noise": {"off": {"traders.noise": {"coins": 3, "size_sigma": 1.0}}},
}


def linked(**changes: Any) -> Scenario:
    return load_with("first-hour", [{"links": LINKS}, {"links": changes}])


def test_links_are_switched_off_one_by_one_and_together() -> None:
    scenario = linked()
    alone = {name: scenario.without([name]) for name in LINKS}
    assert "etf" in scenario.traders and "etf" not in alone["flows"].traders
    assert "retail" not in alone["buyers"].traders and "etf" in alone["buyers"].traders
    book = alone["depth"].traders["market_makers"].model_dump()["books"]["btc-spot"]
    assert (book["depth_usd"], book["depth_exponent"]) == (5e6, 0.67)
    every = scenario.without(LINKS)
    assert {"etf", "retail"}.isdisjoint(every.traders)
    assert every.traders["noise"].model_dump()["coins"] == 3
    assert every.links == {}


def test_what_is_not_touched_stays_as_it_is() -> None:
    scenario = linked()
    assert scenario.without([]).hash == scenario.hash == load("first-hour").hash
    off = scenario.without(["flows"])
    assert off.traders["market_makers"] is scenario.traders["market_makers"]
    assert off.hash == load("first-hour", **{"traders.etf": None}).hash


def test_the_order_in_which_they_are_switched_off_does_not_matter() -> None:
    """Whoever is taken out is out, whatever else is laid over him."""
    scenario = linked(thrifty={"off": {"traders.etf.coins": 1.0}})
    one, other = (scenario.without(names) for names in (["flows", "thrifty"], ["thrifty", "flows"]))
    assert one.hash == other.hash and "etf" not in one.traders
    assert scenario.without(["thrifty"]).traders["etf"].model_dump()["coins"] == 1.0


def test_links_of_kept_scenarios_change_them() -> None:
    for name in scenario_files():
        scenario = load(name)
        hashes = {scenario.hash, scenario.without(scenario.links).hash}
        hashes |= {scenario.without([link]).hash for link in scenario.links}
        assert len(hashes) == (len(scenario.links) + 2 if scenario.links else 1)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"flows": {"off": {"traders.eft": None}}}, "links.flows.off: traders.eft is not a key of this scenario (abm schema)"),
        (
            {"flows": {"off": {"traders.etf.coin": 1}}},
            "links.flows.off: traders.etf.coin is not a key. Did you mean traders.etf.coins? (abm schema traders)",
        ),
        ({"more": {"off": {"traders.noise.coins": 4}}}, "links: noise and more set traders.noise.coins to different values; make them one link"),
        ({"more": {"off": {"traders.noise": 4}}}, "links: noise and more set traders.noise to different values; make them one link"),
        ({"more": {"off": {}}}, "links.more.off = {} Dictionary should have at least 1 item after validation, not 0 (abm schema links)"),
        ({"more": {"of": {}}}, "links.more.off is missing, such as {'traders.etf': None, 'channels.flight': False} (abm schema links) (and 1 more)"),
        (
            {"more": {"off": {"instruments.btc-spot.tick": -1}}},
            "links.more.off: instruments.btc-spot.tick = -1 should be greater than 0 (abm schema instruments)",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(change: dict[str, Any], line: str) -> None:
    changes = [{"links": {"buyers": None, "flows": None}}, {"links": change}]
    with pytest.raises(ScenarioError) as caught:
        load_with("first-hour", [{"links": LINKS}, *changes])
    assert str(caught.value).startswith("first-hour: ")
    assert line in str(caught.value)


def test_all_together_must_be_a_scenario_too() -> None:
    together = {
        "short": {"off": {"clock.end": "2026-02-05T00:30Z"}},
        "late": {"off": {"clock.start": "2026-02-05T00:45Z"}},
    }
    with pytest.raises(ScenarioError, match=r"first-hour: links, all off: clock: end must be later than start"):
        load_with("first-hour", [{"links": together}])


def test_a_scenario_based_on_another_drops_links_of_whom_it_leaves_out(tmp_path: Path) -> None:
    base, child = tmp_path / "base.yaml", tmp_path / "child.yaml"
    base.write_text(
        "based_on: first-hour\nlinks:\n  flows: {off: {traders.etf: null}}\n"
        "  both: {off: {traders.etf.coins: 1, traders.noise.coins: 3}}\n  noise: {off: {traders.noise.coins: 3}}\n"
    )
    child.write_text("based_on: base\ntraders: {etf: null}\nlinks: {noise: null}\n")
    assert list(load(base).links) == ["flows", "both", "noise"]
    links = load(child).links
    assert list(links) == ["both"]
    assert links["both"].off == {"traders.noise.coins": 3}


def test_on_and_off_are_words_where_they_are_keys(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("based_on: first-hour\nchannels: {news: {on: off}, flight: off}\n")
    channels = load(path).channels
    assert not channels.news.on and not channels.flight.on and channels.sentiment.on
