"""Studies in docs/experiments: what they begin with, measure and expect."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import abm
from abm.record import Result
from analysis.sweep import Sweep
from experiments.one_run import measured_by
from experiments.store import Outcome
from experiments.studies import command, policies
from experiments.studies.leverage_depth import (
    FALL,
    SCALE,
    AtRisk,
    Impact,
    at_risk,
    draw,
    expected_fall,
    forced,
    study,
)
from experiments.sweep_plan import read_plan

FEW = {"clock.end": "2026-02-05T00:20Z", "traders.retail_leverage.accounts": 2000}


@pytest.fixture(scope="module")
def played() -> Result:
    """Twenty minutes with a book so thin that accounts are liquidated."""
    thin = {
        "traders.market_makers.books.btc-spot.depth_usd": 1e6,
        "traders.market_makers.books.btc-perp.depth_usd": 1e6,
        "traders.value.demand": 1e8,
        "traders.value_perp.demand": 1e8,
    }
    return abm.run(abm.load("one-sale", **FEW, **thin, **{SCALE: 3.0}))


def test_what_is_at_risk_is_what_longs_hold_by_the_price_at_which_they_go() -> None:
    """Without borrowing nobody is near; with more, the same positions go sooner."""
    scenarios = {scale: abm.load("one-sale", **FEW, **{SCALE: scale}) for scale in (0.05, 1.0, 3.0)}
    risks = {scale: at_risk(scenario) for scale, scenario in scenarios.items()}
    assert all((np.diff(risk.falls) >= 0).all() and (np.diff(risk.usd) > 0).all() for risk in risks.values())
    assert risks[0.05].within(0.2) < 0.02 * risks[3.0].within(0.2)
    assert risks[1.0].within(0.05) < risks[3.0].within(0.05)
    assert risks[3.0].within(1.0) < scenarios[3.0].traders["retail_leverage"].longs  # type: ignore[attr-defined]


def test_a_uniform_risk_amplifies_by_one_over_one_less_k() -> None:
    impact, falls = Impact(1e-9, 1.0), np.linspace(0.0, 1.0, 100_001)
    for k in (0.0, 0.5, 0.9):
        fall = expected_fall(impact, AtRisk(falls, k * 1e9 * falls), sale=1e7, depth=1.0)
        assert fall == pytest.approx(0.01 / (1.0 - k), rel=0.02)
    assert expected_fall(impact, AtRisk(falls, 1.1e9 * falls), sale=1e7, depth=1.0) == 1.0
    assert expected_fall(impact, AtRisk(falls, 1.1e9 * falls), sale=1e7, depth=2.2) == pytest.approx(
        0.01 / 1.1, rel=0.02
    )


def test_the_impact_is_that_of_falls_without_borrowing() -> None:
    law = Impact(1e-7, 0.75)
    found = Impact.fitted({depth: law.fall(1e8, depth) for depth in (0.25, 1.0, 4.0)}, 1e8)
    assert (found.a, found.b) == pytest.approx((law.a, law.b))


def test_what_is_forced_adds_up(played: Result) -> None:
    """Orders of the clearing house and what the fund took over are the liquidations of the run."""
    taken, rows = forced(played), played.liquidations
    assert taken["forced_usd"] > 0 and taken["taken_over_usd"] > 0
    liquidated = rows[rows["what"] == "liquidated"]
    taker = played.flows[(played.flows["reason"] == "liquidation") & (played.flows["role"] == "taker")]
    assert taker["volume"].sum() == pytest.approx(liquidated["quantity"].sum())
    # A record has the price of an order's last fill, the worst of all
    worst = (liquidated["quantity"] * liquidated["price"]).sum()
    assert worst <= taken["forced_usd"] == pytest.approx(worst, rel=0.02)
    fund = rows[rows["what"] == "taken_over"]
    assert taken["taken_over_usd"] == pytest.approx((fund["quantity"] * fund["price"]).sum())
    sold = played.flows[(played.flows["reason"] == "execution") & (played.flows["role"] == "taker")]
    assert taken["sale_usd"] == pytest.approx(sold["notional"].sum()) and sold["instrument"].unique() == ["btc-spot"]


def test_the_sale_and_the_accounts_are_all_that_acts(played: Result) -> None:
    """Accounts with leverage neither stop, give up nor take profits, so that what they trade is liquidations."""
    takers = played.flows[(played.flows["role"] == "taker")].groupby("reason")["notional"].sum()
    own = takers.reindex(["stop_loss", "panic", "take_profit", "short_cover", "trend"]).fillna(0.0).sum()
    assert own < 0.01 * takers["liquidation"]


def test_the_study_reads_columns_that_its_sweep_has(played: Result) -> None:
    plan = read_plan("leverage-depth", ["experiments.studies.leverage_depth:forced"])
    first = plan.scenarios[0]
    came = {name: value for part in measured_by(plan.measure) for name, value in part(played).items()}
    table = plan.table([Outcome(first.hash, first.seed, came, 0.0, "", "")])
    read = ["leverage", "depth", "replication", FALL, "sale_usd", "forced_usd", "taken_over_usd", "liquidated_usd"]
    assert table[[*read, "liquidated_accounts"]].notna().all(axis=None)


def test_runs_are_held_against_those_without_borrowing() -> None:
    """A table made up: falls as the impact law has them, half as deep again with leverage, more liquidated than sold in the thin book alone."""
    law, rows = Impact(1e-7, 0.75), []
    for leverage, depth, replication in product((0.05, 3.0), (0.5, 4.0), (0, 1)):
        luck, deeper = 1.0 + 0.1 * replication, 1.5 if leverage > 1 else 1.0
        liquidated = 3e8 if leverage > 1 and depth < 1 else 0.0
        rows.append((leverage, depth, replication, -law.fall(1e8, depth) * luck * deeper, liquidated, 1e8, ""))
    names = ["leverage", "depth", "replication", FALL, "liquidated_usd", "sale_usd", "error"]
    about = {"keys": ["leverage", "depth"], "measures": {"liquidated_usd": {}}, "spec": {"scenario": "one-sale"}}
    found = study(Sweep(pd.DataFrame(rows, columns=names), about))
    assert found.runs["amplified"].to_numpy() == pytest.approx(np.repeat([1.0, 1.5], 4))
    assert found.impact.b == pytest.approx(law.b) and found.sale == 1e8
    assert found.line.line is not None and np.isfinite(found.line.line["critical"]).tolist() == [True, False]
    expected = found.expected.set_index(["leverage", "depth"])["liquidated"]
    for depth, border in found.borders.items():
        assert 0.05 < border < 3.0 if expected[3.0, depth] > 1e8 else np.isnan(border)
    assert draw(found).get_axes()


def test_policies_are_held_against_the_same_seed_without_them() -> None:
    """A table made up: seeds differ by far more than what the policy changes."""
    rows = [
        (policy, seed, -0.1 * seed + milder, 1e9 * seed - 5e8 * (milder > 0), "")
        for policy, milder in (("as it was", 0.0), ("cap", 0.02), ("none", 0.0))
        for seed in (1, 2, 3)
    ]
    names = ["policy", "seed", "drawdown", "liquidated_usd", "error"]
    runs = pd.DataFrame([*rows, ("cap", 4, np.nan, np.nan, "took too long")], columns=names)
    found = Sweep(runs, {"spec": {"measures": ["drawdown", "liquidated_usd"]}})
    assert policies.differences(found).loc["cap", "drawdown"].to_numpy() == pytest.approx(0.02)
    shown = policies.table(found)
    assert shown.index.tolist() == ["as it was", "cap", "none"] and shown.loc["cap", "runs"] == 3
    assert shown.loc["cap", ["change", "least", "greatest"]].to_numpy(float) == pytest.approx(0.02)
    assert shown.loc["none", "change"] == 0.0
    fall, liquidated = policies.draw(found).get_axes()
    assert [label.get_text() for label in fall.get_yticklabels()] == ["cap", "none"]
    assert liquidated.get_xlim()[1] > 500


@pytest.mark.parametrize(
    ("asked", "said"),
    [([], "give the folder of the sweep"), (["nothing", "x.png"], "nothing: no sweep that has come to an end")],
)
def test_a_study_that_cannot_be_told_says_why_in_one_line(
    asked: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["study", *asked])
    with pytest.raises(SystemExit) as left:
        command(lambda found: (Figure(), "told"))
    assert str(left.value).startswith(said) and "\n" not in str(left.value)
