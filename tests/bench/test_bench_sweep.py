"""The bench of sweeps: that what it times comes to the same, and a sweep that does not is found out."""

from importlib import import_module
from pathlib import Path

import pytest

from experiments.bench.report import WrongTotals

sweep = import_module("experiments.bench.sweep")  # the command of that name lies over it in its package


def test_all_ways_come_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = sweep.measure(runs=3, minutes=1)
    judged = [figure.what for figure in report.figures if figure.reach]
    assert judged == ["a sweep beside its runs", "two workers to one"]
    assert all(figure.value > 0 for figure in report.figures[:4])
    honest = sweep._swept
    monkeypatch.setattr(sweep, "_swept", lambda *a: ([value + 1e-9 for value in honest(*a)[0]], honest(*a)[1]))
    with pytest.raises(WrongTotals, match="do not come to what they come to alone"):
        sweep._blocks(2, 1, tmp_path)
