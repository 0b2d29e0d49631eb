"""What the studies in docs/experiments measure beside what `abm sweep --list-measures` shows, and how they draw it."""

import sys
from collections.abc import Callable
from pathlib import Path

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abm.scenario import ScenarioError
from analysis.sweep import Sweep


def command(told: Callable[[Sweep], tuple[Figure, str]]) -> None:
    """Hold a sweep against what was expected, from the command line: the folder of the sweep, and where to draw the figure.

    Args:
        told: What is drawn of a sweep, and its table as text.
    """
    if len(sys.argv) != 3:
        sys.exit("give the folder of the sweep, and a file for the figure, such as runs/sweeps/policies policies.png")
    folder, picture = map(Path, sys.argv[1:])
    try:
        figure, text = told(Sweep.read(folder))
        figure.savefig(picture, dpi=110)
    except KeyError as error:
        sys.exit(f"{folder}: the sweep has no {error}; play the one that this study is about")
    except (ScenarioError, OSError, ValueError) as error:
        sys.exit(" ".join(str(error).split()))
    sys.stdout.write(f"{text}\n")


def finished(ax: Axes, by: str) -> None:
    """Give axes their key, headed by what its entries differ in, and take away what is not needed."""
    ax.legend(title=by, frameon=False, fontsize=8, title_fontsize=8)
    ax.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    sns.despine(ax=ax)


def headed(figure: Figure, text: str) -> None:
    """Write above a figure what it shows."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=11, fontweight="bold")
