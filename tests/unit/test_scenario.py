"""Scenarios: read, based on another, overridden, refused in one line that names the file, the key and the fix."""

from pathlib import Path

import pytest

from abm.scenario import Scenario, ScenarioError, assignment, load, load_with, scenario_files

SMALL = """
clock: {start: 2026-02-05T00:00Z, end: 2026-02-05T00:10Z}
instruments:
  btc-spot: {tick: 0.01, lot: 0.0001, max_price: 250_000, reference_price: 73_100}
traders:
  noise: {accounts: 10, cash: 272e6}
"""

PERP = {"kind": "perpetual", "tick": 0.1, "lot": 0.001, "max_price": 250_000, "reference_price": 73_100}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_every_scenario_that_is_kept_can_be_read() -> None:
    assert {"february-2026", "first-hour"} <= set(scenario_files())
    for name in scenario_files():
        assert load(name).name == name


def test_the_scenario_of_one_book_is_what_it_says() -> None:
    scenario = load("spot")
    assert scenario.clock.steps == 172_800
    assert scenario.instruments["btc-spot"].reference_price == 73_100
    assert scenario.instruments["btc-spot"].unit == 1
    assert all(scenario.inputs.values())
    assert {c.role for c in scenario.compare.values()} <= {"input", "predicted", None}


def test_numbers_dates_and_names_are_read(small: Path) -> None:
    scenario = load(small)
    assert scenario.name == "small"
    assert scenario.traders["noise"].kind == "noise"
    assert scenario.traders["noise"].model_dump()["cash"] == 272e6


def test_one_mapping_can_be_laid_below_others_in_a_file(small: Path) -> None:
    child = small.with_name("child.yaml")
    child.write_text(
        "based_on: small\ntraders:\n  more: &more {kind: noise, coins: 3, accounts: 7}\n"
        "  rich: &rich {<<: *more, coins: 9}\n  poor: {coins: 1, <<: *rich, accounts: 8}\n"
    )
    traders = {name: body.model_dump() for name, body in load(child).traders.items()}
    assert [traders[name]["coins"] for name in ("more", "rich", "poor")] == [3, 9, 1]
    assert [traders[name]["accounts"] for name in ("more", "rich", "poor")] == [7, 7, 8]


def test_a_scenario_is_laid_over_the_one_it_is_based_on(small: Path) -> None:
    child = small.with_name("child.yaml")
    child.write_text("based_on: small\nseed: 9\ntraders: {noise: {coins: 3}, value: {accounts: 5}}\n")
    scenario = load(child)
    assert (scenario.name, scenario.seed) == ("child", 9)
    assert scenario.traders["noise"].model_dump()["cash"] == 272e6
    assert scenario.traders["noise"].model_dump()["coins"] == 3
    assert list(scenario.traders) == ["noise", "value"]
    child.write_text("based_on: small\ntraders: {noise: null}\n")
    assert load(child).traders == {}


def test_what_is_particular_to_observations_goes_with_their_file(small: Path) -> None:
    small.write_text(f"{SMALL}observations: a.csv\ncompare: {{btc.low: {{role: input}}}}\n")
    child = small.with_name("child.yaml")
    child.write_text("based_on: small\nseed: 9\n")
    assert list(load(child).compare) == ["btc.low"]
    child.write_text("based_on: small\nobservations: b.csv\ncompare: {btc.high: {role: input}}\n")
    assert list(load(child).compare) == ["btc.high"]


def test_overrides_by_name_and_by_dotted_key() -> None:
    scenario = load("first-hour", seed=7, clock={"end": "2026-02-05T00:30Z"}, **{"traders.noise.accounts": 10})
    assert (scenario.seed, scenario.clock.steps, scenario.traders["noise"].accounts) == (7, 1800, 10)
    changed = load_with("first-hour", [assignment("traders.noise.accounts=12"), assignment("clock.step=2s")])
    assert (changed.traders["noise"].accounts, changed.clock.step) == (12, 2.0)


def test_the_hash_follows_what_the_run_depends_on(small: Path) -> None:
    first = load(small)
    assert first.hash == load(small).hash
    assert first.hash == load(small, description="other words").hash
    assert len({first.hash, load(small, seed=2).hash, load(small, **{"traders.noise.coins": 1}).hash}) == 3


def test_nothing_changes_after_validation(small: Path) -> None:
    scenario = load(small)
    with pytest.raises(ValueError, match="frozen"):
        scenario.seed = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        scenario.traders["noise"].accounts = 3


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("febuary-2026", {}, "febuary-2026: no such scenario. Did you mean february-2026? (abm list)"),
        (
            "first-hour",
            {"instruments.btc-perp": PERP | {"margin": {"mark": {"index": {"btc-spt": 1}}}}},
            "first-hour: instruments.btc-perp.margin.mark.index: 'btc-spt' is not another instrument here. Did you mean btc-spot?",
        ),
        (
            "first-hour",
            {"instruments.btc-perp": PERP | {"margin": {"brackets": "bitcoin"}}},
            "first-hour: instruments.btc-perp.margin.brackets: no brackets 'bitcoin'; there are btc, default, doge, eth, sol, xrp "
            "(abm schema instruments)",
        ),
        ("a/b.yaml", {}, "a/b.yaml: no such file (abm list shows the scenarios that are kept)"),
        ("first-hour", {"sede": 1}, "first-hour: sede is not a key. Did you mean seed? (abm schema)"),
        (
            "first-hour",
            {"traders.retial.accounts": 10},
            "first-hour: traders.retial is not a key. Did you mean traders.retail? (abm schema traders)",
        ),
        (
            "first-hour",
            {"traders.retail.acounts": 10},
            "first-hour: traders.retail.acounts is not a key. Did you mean traders.retail.accounts? (abm schema traders)",
        ),
        (
            "first-hour",
            {"traders.mine.kind": "noize"},
            "first-hour: traders.mine.kind: 'noize' is not a kind of trader. Did you mean noise? (abm schema traders)",
        ),
        (
            "first-hour",
            {"instruments.btc-spot.tick": -0.01},
            "first-hour: instruments.btc-spot.tick = -0.01 should be greater than 0 (abm schema instruments)",
        ),
        (
            "first-hour",
            {"instruments.btc-spot.lot": 0.00001},
            "first-hour: instruments.btc-spot: tick x lot = 1E-7 must be a whole number of 0.000001 USD; "
            "use a larger lot or tick (abm schema instruments)",
        ),
        (
            "first-hour",
            {"traders.noise.accounts": "many"},
            "first-hour: traders.noise.accounts = 'many' should be a valid integer, unable to parse string as an integer "
            "(abm schema traders)",
        ),
        (
            "first-hour",
            {"clock.step": "fast"},
            "first-hour: clock.step: 'fast' is not a duration; write a number with ms, s, min, h or d, such as 5min (abm schema clock)",
        ),
        (
            "first-hour",
            {"clock.end": "2026-02-04T00:00Z"},
            "first-hour: clock: end must be later than start (abm schema clock)",
        ),
        (
            "first-hour",
            {"traders.noise.instrument": "btc-spott"},
            "first-hour: traders.noise.instrument: 'btc-spott' is not traded here. Did you mean btc-spot?",
        ),
        (
            "first-hour",
            {"traders.etf.flows": [{"day": "2026-02-05", "usd": 1}]},
            "first-hour: traders.etf.flows.0.source is missing, such as observations.csv etf.flow.mtd (abm schema traders)",
        ),
        (
            "first-hour",
            {"instruments.btc-spot.reference_price": None},
            "first-hour: instruments.btc-spot.reference_price is missing: a run needs a price to open at",
        ),
        (
            "first-hour",
            {"inputs.clock.stop": None},
            "first-hour: inputs.clock = {'stop': None} should be a valid string (abm schema inputs)",
        ),
        (
            "first-hour",
            {"recording.interval": 1.5},
            "first-hour: recording.interval must be a whole number of steps (clock.step)",
        ),
        ("first-hour", {"fundamentals.gold": {}}, "first-hour: fundamentals.gold: not traded here"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(name: str, change: dict[str, object], line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(name, **change)
    assert str(caught.value) == line


def test_several_faults_are_counted() -> None:
    with pytest.raises(ScenarioError, match=r"\(and 1 more\)$"):
        load("first-hour", **{"traders.noise.accounts": -1, "seed": -1})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: [1", "broken.yaml, line 1"),
        ("seed: 1\nseed: 2\n", "broken.yaml, line 2: the key 'seed' stands twice"),
        ("a: {b: &x {c: 1, c: 2}}\nd: {<<: *x}\n", "broken.yaml, line 1: the key 'c' stands twice"),
        ("a: {<<: 3}\n", "broken.yaml, line 1: expected a mapping"),
        ("- 1\n", "a scenario is a mapping"),
        ("based_on: broken\n", "based_on goes round in a circle: broken -> broken"),
        ("based_on: nothing-there\n", "broken.yaml: based_on: nothing-there: no such scenario"),
        ("based_on: 3\n", "write the name of a scenario"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "bytes.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScenarioError, match="not a text file"):
        load(path)


def test_inputs_name_keys_of_the_scenario() -> None:
    with pytest.raises(ScenarioError, match=r"inputs: traders.noise.colour is not a key"):
        load_with("first-hour", [{"inputs": {"traders.noise.colour": "nowhere"}}])


def test_fitted_names_keys_of_the_scenario_that_are_no_inputs_then() -> None:
    with pytest.raises(ScenarioError, match=r"fitted: traders.noise.colour is not a key"):
        load_with("first-hour", [{"fitted": {"traders.noise.colour": "nothing"}}])
    key = "fundamentals.btc-spot.volatility"
    fitted = load_with("first-hour", [{"fitted": {key: "btc.low.feb6"}}])
    assert key in load("first-hour").inputs
    assert key not in fitted.inputs
    assert fitted.fitted == {key: "btc.low.feb6"}
    assert fitted.hash == load("first-hour").hash
    again = load_with("first-hour", [{"fitted": {key: "btc.low.feb6"}}, {"fitted": {key: None}}])
    assert again.fitted == {} and key in again.inputs, "what is based on it may put that in"
    without = {"traders": {"noise": None}, "fitted": {"traders.noise.coins": "btc.low.feb6"}}
    assert load_with("first-hour", [without]).fitted == {}


@pytest.mark.parametrize("text", ["seed", "=3", "a b=3", "a..b=1"])
def test_an_assignment_has_a_form(text: str) -> None:
    with pytest.raises(ScenarioError, match=r"write key.path=value"):
        assignment(text)


def test_a_scenario_can_be_built_in_python() -> None:
    scenario = Scenario.model_validate(load("first-hour").model_dump(mode="json"))
    assert scenario.hash == load("first-hour").hash


def test_the_hash_tells_recorded_orders_apart_by_what_they_are(tmp_path: Path) -> None:
    def hashed(folder: str, text: str) -> str:
        file = tmp_path / folder / "flow.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return load("first-hour", traders={"replayer": {"path": str(file)}}).hash

    first = hashed("one", "time,side,kind,price,quantity\n0,buy,limit,1,1\n")
    assert hashed("other", "time,side,kind,price,quantity\n0,buy,limit,1,1\n") == first
    assert hashed("one", "time,side,kind,price,quantity\n0,sell,limit,1,1\n") != first
