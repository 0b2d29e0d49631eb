"""The bench of environments: what it plays can be played, and stands beside the same market."""

from experiments.bench.gym import _beside
from experiments.bench.report import Report
from experiments.envs import Execution, SharedMarket


def test_each_environment_has_its_bare_market_beside_it() -> None:
    report = Report("")
    for env in (Execution(duration="1min"), SharedMarket(duration="1min")):
        _beside(report, env, 1)
    assert [figure.what for figure in report.figures[:3]] == ["Execution", "Execution, bare market", "Execution, reset"]
    assert all(figure.value > 0 for figure in report.figures)
