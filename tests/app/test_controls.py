"""What can be changed by sliders: found from a scenario's own keys, and acting as `--set` does."""

import shlex

import pytest

from abm.scenario import ScenarioError, assignment, load, load_with, scenario_files
from experiments.app.controls import LINK, OFF, Changeable


@pytest.fixture(scope="module")
def quick():
    return Changeable("february-2026-quick")


def test_controls_are_those_that_the_scenario_has_keys_for(quick):
    hour = Changeable("first-hour")
    assert {"depth", "makers", "exit", "noise"} <= hour.controls.keys()
    assert not {"leverage", "margin", "fund"} & hour.controls.keys()  # no leverage is there
    assert not [name for name in hour.controls if name.startswith(LINK)]
    assert {"leverage", "margin", "fund", "exit", "panic", "link.miners"} <= quick.controls.keys()
    assert "exit" not in Changeable("calm").controls
    assert "channel.flight" in Changeable("markets").controls  # it has several assets, and names no links


@pytest.mark.parametrize("name", [name for name in scenario_files() if "-2026-" not in name or name.endswith("quick")])
def test_a_scenario_as_it_is_has_no_changes_and_its_own_hash(name):
    changeable = Changeable(name)
    settings = changeable.settings(changeable.own)
    assert settings == {}
    assert changeable.load(changeable.scenario.seed, settings).hash == load(name).hash


def test_each_control_at_its_ends_gives_a_scenario_that_differs(quick):
    before = quick.scenario.hash
    for name, control in quick.controls.items():
        ends = list(control.choices) or [control.low, control.high]
        hashes = {quick.load(quick.scenario.seed, quick.settings({name: end})).hash for end in ends}
        assert len(hashes) == len(ends) and hashes != {before}, name


def test_a_cap_on_leverage_leaves_who_has_less(quick):
    capped = quick.load(1, {"leverage": 10})
    assert capped.traders["leverage_btc"].leverage.at == (2, 3, 5, 10, 10, 10, 10, 10, 10, 10)
    assert capped.traders["institutions_btc"] == quick.scenario.traders["institutions_btc"]
    assert capped.hash == load("february-2026-quick", **{"traders.leverage_btc.leverage.at": [2, 3, 5] + [10] * 7}).hash


def test_firms_come_and_go_with_their_capital_and_depth(quick):
    own = quick.scenario.traders["crypto_makers"]
    few, many = (quick.load(1, {"makers": n}).traders["crypto_makers"] for n in (3, 20))
    assert (few.accounts, few.capital) == (3, own.capital[:3])
    part = sum(own.capital[:3]) / sum(own.capital)
    assert few.books["btc-spot"].depth_usd == pytest.approx(part * own.books["btc-spot"].depth_usd)
    assert sum(many.capital) == pytest.approx(2 * sum(own.capital))
    both = quick.load(1, {"makers": 3, "depth": 0.5}).traders["crypto_makers"]
    assert both.books["btc-spot"].depth_usd == pytest.approx(0.5 * part * own.books["btc-spot"].depth_usd)


def test_the_exit_scales_what_is_taken_out_and_not_what_is_put_in(quick):
    flows = [flow.usd for flow in quick.load(1, {"exit": 2.0}).traders["etf"].flows]
    assert flows == [562e6, -800e6, -800e6, -904e6]


def test_a_link_switched_off_takes_out_whoever_else_is_changed(quick):
    scenario = quick.load(1, {"link.miners": OFF, "link.leverage": OFF, "leverage": 10})
    assert "miners" not in scenario.traders
    assert scenario.traders["leverage_btc"].leverage.at == (1,)


def test_the_command_line_plays_the_same(quick):
    settings = {
        "leverage": 5,
        "depth": 0.5,
        "makers": 4,
        "exit": 0.5,
        "margin": "full",
        "link.miners": OFF,
        "link.panic": OFF,
    }
    _, _, name, _, seed, *rest = shlex.split(quick.command(7, settings))
    changes = [assignment(text) for text in rest[1::2]]
    assert set(rest[::2]) == {"--set"}
    assert load_with(name, [*changes, {"seed": int(seed)}]).hash == quick.load(7, settings).hash


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"leverage": 0}, "Leverage, at most: write a whole number from 1 to 125 (times)"),
        ({"leverage": 2.5}, "whole number"),
        ({"depth": "much"}, "Depth of the books: write a number from 0.1 to 4"),
        ({"depth": float("nan")}, "a number"),
        ({"margin": "none"}, "choose full or ladder or staged"),
        ({"link.miners": 1}, "choose on or off"),
        ({"../etc": 1}, "no such control"),
    ],
)
def test_what_does_not_fit_is_said(quick, given, said):
    with pytest.raises(ScenarioError, match=r"^[^\n]+$") as error:
        quick.settings(given)
    assert said in str(error.value)
