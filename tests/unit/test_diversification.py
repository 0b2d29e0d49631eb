"""The study of diversification and crowding: what it measures of runs, expects of how they begin, and draws."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

import abm
from analysis.sweep import Sweep
from experiments.studies.diversification import Funds, contagion, draw, expected, reach, sales, study, table

SCENARIO = "paulin-flash-crash"
POINT = {"traders.funds.draw.assets": 4, "traders.funds.draw.crowding": 1.0}


def alike(k: int, shares: int = 10, funds: int = 5, leverage: float = 4.0, impact: float = 1e-8) -> Funds:
    """Funds that all hold the first k shares."""
    weights = np.zeros((funds, shares))
    weights[:, :k] = 1.0 / k
    return Funds(weights, np.full(funds, leverage), np.full(funds, 2e6), impact)


def test_the_radius_of_funds_that_are_alike_has_a_closed_form() -> None:
    for k, leverage in ((1, 3.0), (4, 4.0), (10, 2.0)):
        assert alike(k, leverage=leverage).radius == pytest.approx(1e-8 * 1e7 * leverage * (leverage - 1) / k)


def test_small_falls_add_up_to_what_the_matrix_says() -> None:
    """(1 - A)^-1 of the fall of the sale alone, here with A worked out share by share; nothing falls that nobody holds."""
    k, leverage, invested, impact = 4, 4.0, 1e7, 1e-8
    funds, sold = alike(k, leverage=leverage, impact=impact), np.zeros(200)
    sold[0] = 1e3
    matrix = np.zeros((10, 10))
    for i, j in product(range(k), range(k)):
        matrix[i, j] = impact * invested * leverage * (leverage / k - (i == j)) / k
    alone = np.zeros(10)
    alone[0] = impact * sold[0]
    fall = 1.0 - funds.played(sold)[-1]
    assert fall == pytest.approx(np.linalg.solve(np.eye(10) - matrix, alone), rel=1e-3, abs=1e-12)
    assert not fall[k:].any()


def test_beyond_the_border_a_small_sale_is_enough_and_before_it_is_not() -> None:
    sold = np.zeros(60)
    sold[0] = 1e4
    assert 1.0 - alike(1, impact=0.8e-8).played(sold)[-1, 0] < 1e-2
    assert 1.0 - alike(1, impact=1.2e-8).played(sold)[-1, 0] > 0.1


def test_how_far_a_fall_has_come_is_counted_beside_the_share_that_is_sold() -> None:
    falls = np.array([[0.0, 0.0, 0.0, 0.0], [0.2, 0.06, 0.0, 0.0], [0.3, 0.0, 0.051, 0.05]])
    found = reach(falls, np.array([1.0, 2.0, 4.0]))
    assert found == {"sold_fall": 0.3, "others": 2.0, "half_minutes": 3.0}
    nobody = reach(falls[:, :1], np.array([1.0, 2.0, 4.0]))
    assert nobody["others"] == 0.0 and np.isnan(nobody["half_minutes"])


def test_the_sale_is_all_sold_and_no_faster_than_its_part_of_the_volume() -> None:
    scenario = abm.load(SCENARIO)
    brings = sales(scenario)
    assert brings.sum() == pytest.approx(7e6) and len(brings) == 30
    assert brings[0] / (brings[0] + 100 * 12e6 / 2880) == pytest.approx(0.54)


def test_what_is_expected_follows_the_holdings_that_a_run_begins_with() -> None:
    crowded, spread = (expected(abm.load(SCENARIO, **POINT | {"traders.funds.draw.crowding": c})) for c in (1.0, 0.0))
    assert crowded["radius"] == pytest.approx(1e-8 * 8.3e7 * 12 / 4) and crowded["others"] == 3.0
    assert spread["radius"] < 0.5 and spread["others"] == 0.0
    assert spread["sold_fall"] < 0.08 < crowded["sold_fall"]


def test_runs_are_measured() -> None:
    """Three minutes with funds all alike: what funds sold to deleverage is what flows say, and shares that nobody holds stay."""
    result = abm.run(abm.load(SCENARIO, **POINT, **{"clock.end": "2026-02-05T15:03Z"}))
    found = contagion(result)
    takers = result.flows[(result.flows["role"] == "taker") & (result.flows["reason"] == "deleveraging")]
    assert found["deleveraged_usd"] == pytest.approx(takers["notional"].sum()) and found["deleveraged_usd"] > 1e6
    assert takers["instrument"].nunique() == 4
    assert 0.03 < found["sold_fall"] < 0.15 and 0.05 < found["equity_lost"] < 0.6
    assert found["average_fall"] < 4 / 50 * found["sold_fall"] + 0.005
    assert found["ruined"] == 0.0


def test_runs_are_held_against_what_is_expected() -> None:
    """A table made up: others fall at the crowded point alone."""
    rows = [
        (holds, crowding, seed, "", 0.1, 3.0 * crowding, 2.5 if crowding else np.nan, 0.01, 1e6, 0.2, 0.0, 0.01)
        for holds, crowding, seed in product((4, 20), (0.0, 1.0), (1, 2))
    ]
    measures = [
        "sold_fall",
        "others",
        "half_minutes",
        "average_fall",
        "deleveraged_usd",
        "equity_lost",
        "ruined",
        "highest",
    ]
    runs = pd.DataFrame(rows, columns=["holds", "crowding", "seed", "error", *measures])
    found = study(Sweep(runs, {"spec": {"scenario": SCENARIO}}))
    rows_found = table(found).set_index(["crowding", "holds"])
    assert rows_found.loc[(1.0, 4), "others"] == rows_found.loc[(1.0, 4), "others expected"] == 3.0
    assert rows_found.loc[(1.0, 4), "radius"] > 1.0 > rows_found.loc[(1.0, 20), "radius"]
    assert draw(found).get_axes()
