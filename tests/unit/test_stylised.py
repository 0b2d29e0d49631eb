"""Stylised facts: each estimator on series whose answer is known, the table and its bands, the figure, the command, and the real data."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from typer.testing import CliRunner

import abm
from abm.clearing.ledger import Audit
from abm.random import stream
from abm.record import Result
from abm.scenario import ScenarioError
from analysis import estimators as of
from analysis.compare import read_observations
from analysis.samples import parent_orders, read_candles, run_sample, sample, taker_orders
from analysis.stylised import FACTS, Fact, interval90, reference_curves, stylised_curves, stylised_facts
from analysis.stylised_figure import stylised_figure
from experiments import cli
from experiments.stylised_reference import CURVES, measure
from experiments.stylised_windows import CANDLES, activity, jumps, windows

Numbers = of.Numbers
DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def rng(purpose: str) -> np.random.Generator:
    return stream(1, "stylised", purpose)


def fractional_noise(hurst: float, n: int, draws: np.random.Generator) -> Numbers:
    """Normal noise whose autocorrelation falls as lag^(2 hurst - 2), exactly (Davies and Harte 1987)."""
    k = np.arange(n + 1.0)
    covariance = 0.5 * ((k + 1) ** (2 * hurst) - 2 * k ** (2 * hurst) + np.abs(k - 1) ** (2 * hurst))
    eigenvalues = np.fft.fft(np.concatenate((covariance, covariance[-2:0:-1]))).real
    m = len(eigenvalues)
    noise = draws.standard_normal(m) + 1j * draws.standard_normal(m)
    return np.fft.fft(np.sqrt(eigenvalues / m) * noise).real[:n]


def recursive(n: int, scale: Callable[[Numbers, int], float], draws: np.random.Generator) -> Numbers:
    """Returns r[t] = z[t] scale(r, t), z normal."""
    noise, returns = draws.standard_normal(n), np.zeros(n)
    for t in range(n):
        returns[t] = noise[t] * scale(returns, t)
    return returns


def garch(n: int, draws: np.random.Generator, alpha: float = 0.1, beta: float = 0.85) -> Numbers:
    """Bollerslev's: the autocorrelation of squares falls as (alpha + beta)^lag."""
    variance = [1.0]

    def scale(returns: Numbers, t: int) -> float:
        if t:
            variance[0] = 1.0 - alpha - beta + alpha * returns[t - 1] ** 2 + beta * variance[0]
        return float(np.sqrt(variance[0]))

    return recursive(n, scale, draws)


def bars(returns: Numbers, width: str = "5min", **columns: object) -> pd.DataFrame:
    times = pd.date_range("2026-01-05", periods=len(returns) + 1, freq=width, tz="UTC")
    closes = 100.0 * np.exp(np.concatenate(([0.0], np.cumsum(returns))))
    return pd.DataFrame({"time": times, "close": closes, **columns})


def table_of(returns: Numbers) -> pd.DataFrame:
    return stylised_facts(bars(returns)).set_index("statistic")


# ------------------------------------------------------------------------------------------------------------- returns


@pytest.mark.parametrize("exponent", [2.0, 3.0, 4.0])
def test_hill_finds_the_exponent_of_a_pareto_law(exponent: float) -> None:
    draws = rng("pareto")
    returns = draws.choice([-1.0, 1.0], 100_000) * draws.random(100_000) ** (-1 / exponent)
    assert of.hill(returns) == pytest.approx(exponent, rel=3 / np.sqrt(5000))


def test_hill_finds_the_degrees_of_freedom_of_student_far_out() -> None:
    returns = rng("student").standard_t(3, 400_000)
    assert of.hill(returns, 0.003) == pytest.approx(3.0, rel=0.08)
    assert of.hill(returns) == pytest.approx(2.65, abs=0.1)  # the largest 5 % reach into the body


def test_aggregated_returns_are_sums_without_overlap() -> None:
    assert list(of.aggregate(np.arange(8.0), 3)) == [3.0, 12.0]


def test_kurtosis_of_independent_returns_falls_with_their_number() -> None:
    scales = (1, 3, 12, 48)
    student = rng("fall").standard_t(5, 200_000)  # kurtosis 9, so 3 + 6/n of n together
    law = np.polyfit(np.log(scales), np.log([3 + 6 / n for n in scales]), 1)[0]
    assert of.kurtosis_slope(student, scales) == pytest.approx(law, abs=0.1)
    assert of.kurtosis_slope(rng("normal").standard_normal(200_000), scales) == pytest.approx(0.0, abs=0.02)


def test_losses_larger_than_gains_are_seen() -> None:
    gains = rng("asymmetry").exponential(1.0, 20_000)
    returns = np.concatenate((gains, -2.0 * gains))
    assert of.loss_gain_ratio(returns) == pytest.approx(2.0)


def test_bursts_are_told_from_chance() -> None:
    noise = rng("bursts").standard_normal(50_000)
    by_chance = (np.sqrt(0.95) - 1) / (np.sqrt(0.95) + 1)  # waits are geometric
    assert of.burstiness(noise) == pytest.approx(by_chance, abs=0.02)
    calm_and_wild = np.where(np.arange(50_000) // 500 % 4 == 0, 3.0, 1.0)
    assert of.burstiness(noise * calm_and_wild) > 0.4


def test_residuals_of_the_right_volatility_are_normal() -> None:
    decay, variance = of.EWMA_DECAY, [1.0]

    def scale(returns: Numbers, t: int) -> float:
        if t:
            variance[0] = decay * variance[0] + (1 - decay) * returns[t - 1] ** 2
        return float(np.sqrt(variance[0]))

    returns = recursive(20_000, scale, rng("ewma"))
    residuals = of.ewma_residuals(returns)
    assert residuals.std() == pytest.approx(1.0, abs=0.02)
    assert pd.Series(residuals).kurtosis() == pytest.approx(0.0, abs=0.15)
    assert pd.Series(returns).kurtosis() > 1.0


def test_jumps_stand_out_from_a_volatility_that_varies() -> None:
    """Normal returns with a daily cycle and a slow volatility: as many days with a jump as were allowed for, and the jumps put in."""
    draws, n, days = rng("jumps"), 400 * 288, 400
    time = pd.Series(pd.date_range("2025-01-01", periods=n, freq="5min", tz="UTC"))
    cycle = 1.0 + 0.5 * np.sin(2 * np.pi * np.arange(n) / 288)
    slow = np.exp(0.5 * np.sin(2 * np.pi * np.arange(n) / (20 * 288)))
    returns = cycle * slow * draws.standard_normal(n)
    threshold = of.jump_threshold(288)
    assert threshold == pytest.approx(stats.norm.isf((1 - 0.99 ** (1 / 288)) / 2), abs=0.2)
    deviations = of.local_deviations(time, returns)
    assert np.nanstd(deviations) == pytest.approx(1.0, abs=0.03)
    assert (np.abs(deviations) > threshold).sum() < 0.03 * days
    at = draws.choice(np.arange(288, n), days, replace=False)
    returns[at] += draws.choice([-10.0, 10.0], days) * cycle[at] * slow[at]
    found = np.abs(of.local_deviations(time, returns)) > threshold
    assert found[at].mean() > 0.99
    assert found.sum() < 1.03 * days


def test_leverage_has_its_sign() -> None:
    noise = rng("leverage").standard_normal(50_000)
    after_falls = noise[1:] * np.exp(-0.4 * noise[:-1])
    assert of.leverage(after_falls) < -0.05
    assert of.leverage(-after_falls) == pytest.approx(-of.leverage(after_falls))
    assert of.leverage(noise) == pytest.approx(0.0, abs=0.02)


def test_coarse_volatility_leads_where_traders_look_at_it() -> None:
    def scale(returns: Numbers, t: int) -> float:  # HARCH, Mueller et al. (1997)
        return float(np.sqrt(0.5 + 0.06 * returns[max(t - 12, 0) : t].sum() ** 2))

    returns = recursive(24_000, scale, rng("harch"))
    assert of.time_scale_asymmetry(returns) > 0.05
    assert of.time_scale_asymmetry(returns[::-1]) == pytest.approx(-of.time_scale_asymmetry(returns))


# -------------------------------------------------------------------------------------------------------------- memory


def test_autocorrelation_of_an_autoregression() -> None:
    noise = rng("ar").standard_normal(100_000)
    series = np.zeros_like(noise)
    for t in range(1, len(noise)):
        series[t] = 0.6 * series[t - 1] + noise[t]
    assert of.autocorrelation(series, np.array([1, 2, 5])) == pytest.approx([0.6, 0.36, 0.6**5], abs=0.02)


@pytest.mark.parametrize("exponent", [0.3, 0.5, 0.7])
def test_the_memory_of_signs_is_found(exponent: float) -> None:
    signs = np.sign(fractional_noise(1 - exponent / 2, 2**18, rng(f"signs {exponent}")))
    assert of.decay(signs, 10, 1000).exponent == pytest.approx(exponent, abs=0.12)


@pytest.mark.parametrize("n", [8640, 60_000])
def test_slow_decay_is_told_from_exponential(n: int) -> None:
    volatility = np.exp(0.6 * fractional_noise(0.9, n, rng(f"volatility {n}")))
    long = np.abs(volatility * rng("noise").standard_normal(n))
    assert of.decay(long, 1, 100).power_over_exponential > 5
    assert of.decay(np.abs(garch(n, rng(f"garch {n}"))), 1, 100).power_over_exponential < -5
    assert np.isnan(of.decay(np.abs(rng("iid").standard_normal(n)), 1, 100)).all()


def test_squares_of_garch_have_their_autocorrelation() -> None:
    alpha, beta = 0.05, 0.9
    squares = garch(100_000, rng("squares"), alpha, beta) ** 2
    first = alpha * (1 - alpha * beta - beta**2) / (1 - 2 * alpha * beta - beta**2)
    law = [first, first * (alpha + beta) ** 9]
    assert of.autocorrelation(squares, np.array([1, 10])) == pytest.approx(law, abs=0.02)


# -------------------------------------------------------------------------------------------------------------- impact


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_the_impact_exponent_is_found(exponent: float) -> None:
    draws = rng("impact")
    volume = draws.choice([-1.0, 1.0], 20_000) * draws.lognormal(3.0, 1.5, 20_000)
    move = 1e-4 * np.sign(volume) * np.abs(volume / 20.0) ** exponent + 3e-4 * draws.standard_normal(20_000)
    curve = of.impact_curve(volume, move)
    assert of.power_law(curve).exponent == pytest.approx(exponent, abs=0.05)
    for none in (
        of.impact_curve(volume, -move),
        of.impact_curve(volume, 0 * move),
        of.impact_curve(volume[:150], move[:150]),
    ):
        assert np.isnan(of.power_law(none).exponent)


def test_trades_of_one_order_count_once_and_auctions_not_at_all() -> None:
    trades = pd.DataFrame(
        {
            "time": pd.date_range("2026-01-05", periods=6, freq="1s", tz="UTC"),
            "quantity": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
            "aggressor": pd.Categorical(["buy", "buy", "sell", "auction", "sell", "buy"]),
            "taker_account": [3, 3, 4, 5, 4, 3],
            "taker_order": [7, 7, 8, 9, 10, 11],
        }
    )
    orders = taker_orders(trades)
    assert list(orders["sign"]) == [1.0, -1.0, -1.0, 1.0]
    assert list(orders["quantity"]) == [3.0, 4.0, 16.0, 32.0]


def test_parent_orders_are_runs_of_an_account_on_one_side() -> None:
    minutes = [0, 1, 2, 3, 4, 5, 20, 21, 22, 23, 24, 25, 26, 27]
    sides = [1.0] * 6 + [-1.0] * 5 + [1.0] * 3  # the last three are too few
    start = pd.Timestamp("2026-01-05", tz="UTC")
    mine = pd.DataFrame({"time": [start + pd.Timedelta(minutes=m, seconds=30) for m in minutes], "sign": sides})
    orders = pd.concat([mine.assign(account=1, quantity=2.0), mine.assign(account=2, quantity=3.0)]).sort_values("time")
    mids = pd.Series(np.exp(np.arange(40.0)), pd.date_range(start, periods=40, freq="1min"))
    parents = parent_orders(orders, mids)
    assert sorted(parents["volume"]) == [-15.0, -10.0, 12.0, 18.0]
    assert sorted(parents["mid_move"]) == pytest.approx([5.0, 5.0, 6.0, 6.0])  # minute 20 to 25, and 0 to 6


def test_depth_and_curvature_are_exact_where_the_law_is() -> None:
    x = np.array([5.0, 10.0, 25.0, 50.0, 100.0])
    assert of.log_slope(x, 7.0 * x**0.67) == pytest.approx(0.67)
    assert np.isnan(of.log_slope(x[:2], x[:2]))
    hours = np.linspace(-1, 1, 25)
    assert of.curvature(1 + 0.6 * ((hours[1:] + hours[:-1]) / 2) ** 2) == pytest.approx(0.6)


# --------------------------------------------------------------------------------------------------------------- table


def test_a_day_with_a_u_is_seen_in_the_table() -> None:
    position = np.tile((np.arange(288) + 0.5) / 144 - 1, 60)
    returns = 1e-3 * (1 + 1.5 * position**2) * rng("day").standard_normal(len(position))
    facts = table_of(np.roll(returns, -1))
    assert facts.loc["intraday_curvature", "value"] == pytest.approx(1.5 / (1 + 1.5 / 3), abs=0.1)
    assert facts.loc["intraday_ratio", "value"] == pytest.approx(2.4, abs=0.2)
    time = pd.Series(pd.date_range("2026-01-05", periods=len(returns), freq="5min", tz="UTC"))
    flat = of.hourly_profile(time, of.without_hours(time, np.abs(returns)))
    assert flat.to_numpy() == pytest.approx(np.ones(24))


def test_a_gaussian_walk_fails_the_bands_of_heavy_tails_and_memory() -> None:
    facts = table_of(1e-3 * rng("walk").standard_normal(10_000))
    outside = ["hill", "excess_kurtosis", "acf_abs_1", "acf_abs_10"]
    assert list(facts.loc[outside, "inside"]) == [False] * 4
    assert facts.loc["acf_1", "inside"]
    assert facts.loc["acf_abs_power_aic", "note"] == "absolute returns have no memory whose decay could be fitted"
    assert pd.isna(facts.loc["acf_abs_power_aic", "inside"])
    assert facts.loc["sign_acf_exponent", "note"] == "no taker orders in these data"
    assert facts.loc["volume_volatility", "note"] == "no volume in these data"


def test_heavy_tails_with_long_memory_pass_them() -> None:
    n = 30_000
    volatility = np.exp(0.8 * fractional_noise(0.95, n, rng("pass")))
    facts = table_of(1e-3 * volatility * rng("pass noise").standard_normal(n))
    inside = ["acf_1", "hill", "excess_kurtosis", "kurtosis_slope", "burstiness", "acf_abs_1", "acf_abs_10"]
    assert facts.loc[[*inside, "acf_abs_100", "excess_kurtosis_residual", "acf_abs_power_aic"], "inside"].all()


@settings(max_examples=4, deadline=None)
@given(st.floats(1e-4, 1e5))
def test_facts_do_not_depend_on_the_unit_of_price(unit: float) -> None:
    table = bars(1e-3 * garch(2500, rng("unit")), volume=rng("volume").lognormal(0, 1, 2501))
    one, other = (stylised_facts(table.assign(close=table["close"] * by), intervals=False) for by in (1.0, unit))
    pd.testing.assert_frame_equal(one, other, rtol=1e-4, atol=1e-6)  # fits end where the optimiser stops


def test_the_interval_is_that_of_a_mean_of_independent_values() -> None:
    fact = Fact("", "moves", 1, lambda table: (float(table["x"].mean()),), {"mean": ""})
    table = pd.DataFrame({"x": rng("mean").standard_normal(4000)})
    width = [high - low for low, high in (interval90(fact, table.iloc[k:], np.zeros(1)) for k in range(0, 2000, 100))]
    assert np.mean(width) == pytest.approx(2 * 1.729 / np.sqrt(3000), rel=0.25)


def test_bands_are_data_with_a_source_for_statistics_that_exist() -> None:
    known = read_observations("stylised.csv")
    statistics = {statistic for fact in FACTS for statistic in fact.statistics}
    assert {name.split("@")[0] for name in known.index} <= statistics
    assert known["source"].notna().all()
    banded = known[known["low"].notna() | known["high"].notna()]
    assert banded["note"].str.startswith("band: ").all()
    near = known.loc[[f"acf_abs_{lag}@5min" for lag in (1, 10, 100)]]
    assert list(near["high"] - near["value"]) == pytest.approx([0.15] * 3, abs=1e-4)


# ----------------------------------------------------------------------------------------------- samples, a run's tables


@pytest.fixture(scope="module")
def result() -> Result:
    """Ten days in bars of a minute, with taker orders whose signs remember and move the mid by the square root of their volume."""
    per_minute, minutes = 2, 14_400
    draws = rng("run")
    signs = np.sign(fractional_noise(0.75, per_minute * minutes, draws))
    quantity = draws.lognormal(0.0, 1.0, len(signs))
    start = pd.Timestamp("2026-01-05", tz="UTC")
    trades = pd.DataFrame(
        {
            "time": start + pd.to_timedelta(np.arange(len(signs)) * 30 + 15, unit="s"),
            "instrument": "coin",
            "quantity": quantity,
            "aggressor": np.where(signs > 0, "buy", "sell"),
            "taker_account": 1,
            "taker_order": np.arange(len(signs)),
        }
    )
    net = (signs * quantity).reshape(-1, 5 * per_minute).sum(axis=1)
    move = np.zeros(minutes)
    move[4::5] = 1e-4 * np.sign(net) * np.sqrt(np.abs(net))  # in the last minute of each five
    mid = 100.0 * np.exp(np.cumsum(move + 2e-5 * draws.standard_normal(minutes)))
    table = pd.DataFrame({"time": pd.date_range(start, periods=minutes, freq="1min"), "instrument": "coin", "mid": mid})
    table = table.assign(
        close=mid, volume=quantity.reshape(-1, per_minute).sum(axis=1), trades=per_minute, spread_bps=0.5
    )
    table = table.assign(**{f"{side}_depth_{x}bp": 1e6 * x**0.67 for side in ("bid", "ask") for x in (5, 25, 100)})
    return Result(
        summary={"scenario": "made", "scenario_hash": "", "seed": 1, "event_log_hash": "", "instruments": {"coin": {}}},
        audit=Audit(0, 0, 0, 0, 0, 0, {}, {}, {}, ()),
        scenario={},
        bars=table,
        flows=pd.DataFrame(),
        moves=pd.DataFrame(),
        gauges=pd.DataFrame(),
        _accounts=lambda: iter([pd.DataFrame()]),
        liquidations=pd.DataFrame(),
        network=pd.DataFrame(),
        nodes=pd.DataFrame(),
        _trades=lambda: iter([trades]),
    )


def test_a_run_tells_the_facts_of_its_book(result: Result) -> None:
    facts = stylised_facts(result).set_index("statistic")
    assert facts.loc["impact_exponent", "value"] == pytest.approx(0.5, abs=0.05)
    assert facts.loc["sign_acf_exponent", "value"] == pytest.approx(0.5, abs=0.2)
    assert facts.loc["depth_exponent", "value"] == pytest.approx(0.67)
    assert facts.loc["spread_bps", ["value", "low", "high"]].tolist() == [0.5] * 3
    assert facts.loc["impact_exponent", "inside"]
    assert facts.loc["trades_volatility", "note"] == "a series that does not move"
    assert set(stylised_curves(result)["curve"]) == set(pd.read_csv(CURVES)["curve"])


def test_bars_are_put_together_to_five_minutes(result: Result) -> None:
    moves = run_sample(result, "coin").moves
    assert len(moves) == 14_400 // 5 - 1
    closes = result.bars["close"].to_numpy()
    assert moves["ret"].iloc[0] == pytest.approx(np.log(closes[9] / closes[4]))
    assert moves["volume"].iloc[0] == pytest.approx(result.bars["volume"].iloc[5:10].sum())


def test_candles_are_read_alike_from_each_kind_of_file(tmp_path: Path) -> None:
    table = bars(1e-3 * rng("files").standard_normal(10), volume=2.0)
    table.rename(columns={"close": "Close"}).assign(other="x").to_csv(tmp_path / "a.csv.gz", index=False)
    table.assign(time=table["time"].dt.tz_localize(None)).to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv.gz", "a.parquet"):
        pd.testing.assert_frame_equal(read_candles(tmp_path / name), table, check_dtype=False)


def test_no_return_is_taken_over_a_gap() -> None:
    table = bars(1e-3 * rng("gap").standard_normal(1000))
    assert len(sample(table.drop(index=range(300, 400))).moves) == 1000 - 101
    daily = bars(1e-3 * rng("gap").standard_normal(1000), "1D")
    weekdays = daily[daily["time"].dt.day_of_week < 5]
    assert len(sample(weekdays).moves) == len(weekdays) - 1


def test_what_is_wrong_with_a_table_is_said_in_one_line(result: Result) -> None:
    table = bars(1e-3 * rng("wrong").standard_normal(300))
    for wrong, line in (
        (table.drop(columns="close"), "no column close"),
        (table[:150], "149 returns of 5min; 200 are needed"),
        (table.assign(close=0.0), "closes must be above 0 and times must rise"),
        (table[::-1], "closes must be above 0 and times must rise"),
        (table.assign(close=1.0), "the price never moves"),
        (bars(np.full(300, 1e-3), "90s"), "bars of 90 s do not add up to 5min"),
    ):
        with pytest.raises(ScenarioError, match=line):
            sample(wrong)
    with pytest.raises(ScenarioError, match="no instrument gold; it has coin"):
        run_sample(result, "gold")


# ---------------------------------------------------------------------------------------------------- figure and command


def test_the_figure_shows_both_with_units(result: Result) -> None:
    ours, real = stylised_curves(result), reference_curves(pd.Timedelta("5min"))
    axes = stylised_figure(ours, real, "a run", "5min").axes
    assert [ax.get_ylabel() for ax in axes] == [
        "density",
        "autocorrelation",
        "kurtosis less 3",
        "absolute return over its mean",
        "move of the mid (standard deviations)",
        "autocorrelation of signs",
    ]
    for ax in axes:
        assert len([line for line in ax.lines if len(line.get_xdata())]) >= 3  # ours, real, and a law
        assert len({line.get_color() for line in ax.lines}) == 3


def abm_stylised(*arguments: str) -> tuple[int, str, str]:
    answer = CliRunner().invoke(cli.app, ["stylised", *arguments])
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer.exit_code, answer.stdout, answer.stderr


def test_the_command_prints_and_keeps_what_it_found(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result.save("run")
    code, out, _ = abm_stylised("run")
    assert code == 0
    assert "impact_exponent" in out
    assert sorted(path.name for path in (tmp_path / "runs/stylised/run").iterdir()) == ["facts.csv", "figure.png"]
    bars(garch(1500, rng("file")) * 1e-3).rename(columns={"time": "Timestamp", "close": "gold"}).to_csv("gold.csv.gz")
    code, out, _ = abm_stylised("gold.csv.gz", "--instrument", "gold", "--json", "--out", "here")
    content = json.loads(out)
    assert code == 0
    assert (content["interval"], content["returns"]) == ("5min", 1500)
    facts = {row["statistic"]: row for row in content["facts"]}
    assert facts["hill"]["inside"] in (True, False)
    assert facts["spread_bps"]["value"] is None
    assert facts["volume_volatility"]["note"] == "no volume in these data"
    assert abm_stylised("gold.csv.gz", "--instrument", "gold", "--out", "here")[0] == 0  # an earlier result is replaced


def test_bad_input_is_answered_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bars(1e-3 * rng("bad").standard_normal(300)).rename(columns={"close": "gold"}).to_csv("wide.csv", index=False)
    Path("times.csv").write_text("close\n1\n")
    Path("odd.csv").write_text("time,close\nyesterday,1\n")
    Path("broken.csv.gz").write_text("time,close\n")
    Path("other").mkdir()
    Path("other/file").touch()
    for arguments, line in (
        (["nothing.csv"], "nothing.csv: no such file"),
        (["wide.csv"], "wide.csv: no column close of numbers; choose one with --instrument: gold"),
        (["times.csv"], "times.csv: no column of times; call it one of time, timestamp, date, datetime"),
        (["odd.csv"], "odd.csv: time yesterday is not a time such as 2025-01-01 00:05:00"),
        (["broken.csv.gz"], "broken.csv.gz: not a table of candles: Not a gzipped file (b'ti')"),
        (["other"], "other: not a run folder, or not a whole one (no manifest.json)"),
        (
            ["wide.csv", "--instrument", "gold", "--out", "other"],
            "other: is there already; choose another --out or remove it",
        ),
    ):
        code, out, error = abm_stylised(*arguments)
        assert (code, out, error) == (2, "", line + "\n")


# ----------------------------------------------------------------------------------------------------------- real data


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data in {DATA}")
def test_the_reference_is_what_the_real_data_give() -> None:
    values, curves = measure(DATA)
    known = read_observations("stylised.csv")["value"]
    measured = known[known.index.isin(values.index)]
    assert len(measured) == 37
    pd.testing.assert_series_equal(
        measured, values[measured.index], rtol=1e-3, check_names=False, check_index_type=False
    )
    pd.testing.assert_frame_equal(curves, pd.read_csv(CURVES), rtol=1e-3, check_dtype=False)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data in {DATA}")
def test_another_coin_lies_in_the_bands_of_bitcoin() -> None:
    facts = stylised_facts(read_candles(DATA / "bars" / "ETHUSDT_5m_2025.csv.gz"), intervals=False)
    assert facts["inside"].dropna().all()
    assert facts["inside"].notna().sum() == 13
    assert facts["low"].isna().all()


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data in {DATA}")
def test_months_of_the_real_market_lie_in_the_bands_that_runs_of_a_month_are_held_to() -> None:
    found = windows(read_candles(DATA / CANDLES))
    assert (found["windows"] == 12).all()
    assert (found["inside"] >= 10).all()
    assert (found.loc[["acf_1", "hill", "excess_kurtosis", "kurtosis_slope"], "inside"] == 12).all()


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data in {DATA}")
def test_news_of_calm_is_what_was_measured() -> None:
    candles = read_candles(DATA / CANDLES)
    news = abm.load("calm").fundamentals["btc-spot"]
    assert news.jumps is not None
    assert news.pace is not None
    measured = jumps(sample(candles))
    for key in ("per_day", "least", "tail"):
        assert getattr(news.jumps, key) == pytest.approx(measured[key], rel=0.01)
    volume = activity(candles)
    assert news.pace.deviation == pytest.approx(volume["deviation"], rel=0.01)
