"""Papers about networks of banks: closed forms by another road, the networks they draw, and small samples of each."""

from itertools import combinations
from math import exp, factorial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from abm.contagion.measures import eisenberg_noe
from abm.random import stream
from abm.scenario import ScenarioError
from experiments.papers import Estimate, find
from experiments.papers.caccioli_2014 import model as overlap
from experiments.papers.eisenberg_noe_2001 import model as clearing
from experiments.papers.gai_kapadia_2010 import model as loans
from experiments.papers.judgement import Row, judge, read

Floats = npt.NDArray[np.float64]


def reproduced(name: str, *changes: str) -> list[Row]:
    """A small sample, held against the table or the closed form with tolerances wider by its standard errors."""
    paper = find(name)
    config = paper.configured(changes, quick=True)
    return judge(paper, config, paper.model.measure(config, lambda *_: None), quick=True)


def failed(rows: list[Row]) -> list[str]:
    return [row.quantity for row in rows if row.passed is False]


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("eisenberg-noe", "endowment=[1,2]", "liabilities must have a row and a column for each number of endowment"),
        ("eisenberg-noe", "endowment=[1,3,4,6,-4]", "endowment.4 = -4 should be greater than or equal to 0"),
        ("gai-kapadia", "banks=8", "degrees must be below the number of banks; lower them or raise banks"),
        ("gai-kapadia", "degrees=[]", "degrees = [] "),
        ("caccioli", "bank_degrees=[2,1]", "bank_degrees must rise"),
        ("caccioli", "assets=10", "bank_degrees must be at most the number of assets; lower them or raise assets"),
    ],
)
def test_parameters_that_do_not_fit_together_are_refused(name: str, change: str, line: str) -> None:
    with pytest.raises(ScenarioError, match=f"{name}: ") as wrong:
        find(name).configured([change])
    assert line in str(wrong.value)


# ------------------------------------------------------------------------------------------------ Eisenberg and Noe


def greatest(owed: Floats, means: Floats) -> Floats:
    """The clearing vector by trying all sets of defaulters: of those that solve the conditions the one that pays most."""
    n, total, best = len(means), owed.sum(axis=1), np.full(len(means), -1.0)
    shares = owed / np.where(total > 0, total, 1)[:, None]
    for size in range(n + 1):
        for bad in map(list, combinations(range(n), size)):
            pays = total.copy()
            good = [i for i in range(n) if i not in bad]
            try:
                pays[bad] = np.linalg.solve(
                    np.eye(size) - shares[np.ix_(bad, bad)].T, means[bad] + shares[np.ix_(good, bad)].T @ total[good]
                )
            except np.linalg.LinAlgError:
                continue
            if np.allclose(pays, np.minimum(total, means + shares.T @ pays), atol=1e-11) and pays.sum() > best.sum():
                best = pays
    return best


@pytest.mark.parametrize("seed", range(6))
def test_fractions_say_what_trying_all_sets_of_defaulters_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 5
    owed = rng.integers(0, 12, (n, n)) / 4 * (rng.random((n, n)) < 0.7)
    np.fill_diagonal(owed, 0)
    means = rng.integers(0, 8, n) / 4
    config = clearing.Config(liabilities=owed.tolist(), endowment=means.tolist())
    assert config.moved
    found, pays = clearing.exact(config), greatest(owed, means)
    total = owed.sum(axis=1)
    has = means + (owed / np.where(total > 0, total, 1)[:, None]).T @ pays
    for node in range(n):
        payment, equity, _ = clearing.names(node)
        assert found[payment] == pytest.approx(pays[node], abs=1e-10)
        assert found[equity] == pytest.approx(has[node] - pays[node], abs=1e-10)


def test_a_small_sample_of_clearing_is_reproduced_for_the_example_and_for_others() -> None:
    rows = reproduced("eisenberg-noe", "runs=60")
    assert failed(rows) == []
    assert sum(row.passed is True for row in rows) == len(read(find("eisenberg-noe").folder / "reference.csv"))
    (defaults,) = (row.measured for row in rows if row.quantity == clearing.DEFAULTS)
    assert 0.2 < defaults < 0.8  # the networks are neither all sound nor all ruined
    moved = reproduced("eisenberg-noe", "runs=5", "liabilities=[[0,7,1],[3,0,0],[1,0,0]]", "endowment=[0.5,2.5,0]")
    assert failed(moved) == []
    assert [row.measured for row in moved if row.quantity.startswith("round")] == [1, 0, 2]


def test_a_wrong_payment_would_be_noticed() -> None:
    config = clearing.Config(runs=1)
    network = clearing.Network(np.array(config.liabilities, float), np.array(config.endowment, float))
    right, wrong = (eisenberg_noe(*network) for _ in range(2))
    assert max(clearing.faults(network, [right, right, right])) < 1e-15
    wrong.loc[0, "payments"] += 1e-8
    wrong.loc[4, "equity"] -= 1e-8
    apart, off, lost = clearing.faults(network, [right, right, wrong])
    assert min(apart, off, lost) > 5e-10


# --------------------------------------------------------------------------------------------------- Gai and Kapadia


def test_the_window_is_where_a_failure_brings_down_one_other_on_average() -> None:
    table = read(find("gai-kapadia").folder / "reference.csv")
    for name in (loans.OPENS, loans.CLOSES):
        z = table[name].value
        assert z * sum(exp(-z) * z**k / factorial(k) for k in range(4)) == pytest.approx(1, abs=1e-9)
    assert (
        loans.window(0) == loans.window(1) == loans.window(2) == {}
    )  # z exp(-z) is below 1, and so is z (1 + z) exp(-z)
    assert loans.window(3)[loans.OPENS] > table[loans.OPENS].value


@pytest.mark.parametrize(
    ("terms", "debtors"),
    [({}, 4), ({"capital": 0.05}, 3), ({"capital": 0.035}, 5), ({"recovery": 0.5}, 2), ({"capital": 0.2}, 0)],
)
def test_who_is_vulnerable_is_found_out_by_trial_as_by_division(terms: dict[str, Any], debtors: int) -> None:
    config = loans.Config(**terms)
    assert config.vulnerable == debtors
    assert loans._vulnerable(config) == debtors


def test_networks_are_as_the_paper_draws_them() -> None:
    config = loans.Config(banks=30, degrees=(4.0,))
    links = np.random.default_rng(4)
    count, owing = np.zeros((30, 30)), []
    for _ in range(3000):
        owed = loans.network(config, 4.0, links).toarray()
        lent = owed.sum(axis=0)
        assert np.allclose(lent[lent > 0], 0.2)
        assert all(len(set(column[column > 0])) <= 1 for column in owed.T)
        count += owed > 0
        owing.append((owed > 0).sum())
    assert np.diagonal(count).sum() == 0
    chance, off = 4 / 29, ~np.eye(30, dtype=bool)
    z = (count[off] - 3000 * chance) / np.sqrt(3000 * chance * (1 - chance))
    assert abs(z).max() < 5  # every pair alike
    assert np.mean(z**2) == pytest.approx(1, abs=0.25)
    assert np.var(owing) == pytest.approx(30 * 29 * chance * (1 - chance), rel=0.15)


def test_a_small_sample_of_loans_is_reproduced() -> None:
    rows = reproduced("gai-kapadia", "runs=150")
    assert failed(rows) == []
    assert len(rows) == len(read(find("gai-kapadia").folder / "reference.csv"))


def test_other_parameters_are_held_against_the_closed_form() -> None:
    rows = reproduced("gai-kapadia", "runs=300", "banks=100", "capital=0.05", "degrees=[2,3]")
    assert failed(rows) == []
    assert sum(row.passed is True for row in rows) == 5
    # and that of others does not pass for it
    found = loans.spread(loans.Config(runs=3000, banks=100, degrees=(3.0,)), 3.0)
    first = Estimate.mean(found.first)
    other = loans.exact(loans.Config(banks=100, capital=0.05, degrees=(3.0,)))[loans.first(3.0)]
    assert abs(first.value - other) > 8 * first.error


def test_networks_are_drawn_on_until_contagion_is_seen() -> None:
    config = loans.Config(runs=5, banks=200, degrees=(8.0,), seed=3)
    found = loans.spread(config, 8.0)
    assert len(found.extent) > config.runs
    assert (found.extent[:-1] <= config.contagion).all()
    assert found.extent[-1] > config.contagion
    assert len(loans.spread(config.model_copy(update={"further": 2}), 8.0).extent) == 7
    row = {row.quantity: row for row in reproduced("gai-kapadia", "runs=5", "banks=200", "degrees=[8]", "seed=3")}
    assert row[loans.frequency(8.0)].measured == 0
    assert row[loans.extent(8.0)].measured == found.extent[-1]


# ---------------------------------------------------------------------------------- Caccioli, Shrestha, Moore, Farmer


def test_portfolios_are_as_the_paper_draws_them() -> None:
    config = overlap.Config()
    links = stream(1, "portfolios", "test")
    held = np.array([overlap.holdings(config, 3.0, links) for _ in range(50)])
    owned = held.sum(axis=2)
    assert np.allclose(owned[owned > 0], 0.8)
    assert all(len(set(bank[bank > 0])) <= 1 for bank in held[0])
    number = (held > 0).sum(axis=2)
    assert number.mean() == pytest.approx(3, abs=0.08)
    assert (number == 0).mean() == pytest.approx((1 - 3 / 200) ** 200, abs=0.01)


def test_a_small_sample_of_fire_sales_is_reproduced() -> None:
    rows = reproduced("caccioli", "runs=100")
    assert failed(rows) == []
    judged = [row.quantity for row in rows if row.passed is not None]
    assert sorted(judged) == sorted(read(find("caccioli").folder / "reference.csv"))
    assert {row.quantity for row in rows if row.hard} == {overlap.WRONG}


def test_directions_that_do_not_hold_are_found() -> None:
    config = overlap.Config(bank_degrees=(1.0, 2.0, 3.0, 4.0), asset_degrees=(1.0, 2.0))

    def wrong(*shares: float) -> list[str]:
        estimates = {
            overlap.frequency("bank", degree): Estimate(share, 0.01)
            for degree, share in zip(config.bank_degrees, shares, strict=True)
        }
        estimates |= {overlap.frequency("asset", degree): Estimate(0.5, 0.01) for degree in config.asset_degrees}
        return overlap.wrong(config, estimates)

    assert wrong(0.1, 0.9, 0.5, 0.0) == []
    assert wrong(0.1, 0.88, 0.9, 0.0) == []
    assert wrong(0.1, 0.9, 0.1, 0.3) == ["bank: 3 to 4"]
    assert wrong(0.9, 0.5, 0.4, 0.0) == ["bank: no peak at 1"]
    assert wrong(0.0, 0.5, 0.7, 0.9) == ["bank: no peak at 4"]
    assert wrong(0.5, 0.5, 0.5, 0.5) == ["bank: no peak at 1", "bank: no peak at 4"]


def test_without_impact_only_the_shock_itself_is_felt() -> None:
    config = overlap.Config(runs=20, impact=0.0)
    assert set(overlap.spread(config, "bank", 4.0)) == {1 / 200}
    # A bank with up to 7 assets loses more than .04 by one that falls by .35, .8 x .35 / 7
    assert overlap.spread(config, "asset", 4.0).max() < 0.1


@pytest.mark.parametrize("name", ["eisenberg-noe", "gai-kapadia", "caccioli"])
def test_the_figure_is_drawn_also_where_parameters_were_moved(name: str) -> None:
    changes = {
        "eisenberg-noe": ["liabilities=[[0]]", "endowment=[0]", "runs=3"],
        "gai-kapadia": ["degrees=[20]", "banks=50", "capital=0.3", "further=5", "runs=5"],
        "caccioli": ["bank_degrees=[]", "asset_degrees=[0.1]", "runs=5"],
    }[name]
    paper = find(name)
    config = paper.configured(changes, quick=True)
    measured = paper.model.measure(config, lambda *_: None)
    assert failed(judge(paper, config, measured, quick=True)) == []
    figure = paper.figure.draw(config, measured)
    figure.canvas.draw()
    assert len(figure.axes) >= 1
