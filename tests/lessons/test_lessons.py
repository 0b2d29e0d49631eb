"""Every lesson is played from beginning to end, solutions too, as a student would in Jupyter. What it prints and draws is kept for the site."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.site.lessons import lessons

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", lessons())
def test_lesson(name: str) -> None:
    command = [sys.executable, "-m", "tools.site.lessons", "--execute", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
