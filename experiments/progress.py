"""How far a command has come, on stderr: a bar on a terminal, lines elsewhere; and a Ctrl-C that is not lost."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import typer


class Advance(Protocol):
    """What is called now and then with what is done, of how much, and a note that stands behind it.

    Raises:
        KeyboardInterrupt: There was a Ctrl-C.
    """

    def __call__(self, done: float, total: float, note: str = "", /) -> None: ...


def say(line: str) -> None:
    """Print one line on stderr."""
    typer.echo(" ".join(line.split()), err=True)


@contextmanager
def progress(label: str, silent: bool = False) -> Iterator[Advance]:
    """Show how far something has come; where silent, only listen for Ctrl-C."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    with _interrupts() as check:
        if silent:
            yield lambda _done, _total, _note="": check()
            return
        if not console.is_terminal:
            yield _Lines(label, check)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(label, total=None, note="")

            def advance(done: float, total: float, note: str = "") -> None:
                check()
                bar.update(task, completed=done, total=total, note=note)

            yield advance


class _Lines:
    """Progress for a file or a pipe: a line at the start and at each tenth."""

    def __init__(self, label: str, check: Callable[[], None]) -> None:
        self._label, self._check = label, check
        self._began: tuple[float, float] | None = None  # when, and with how much done before
        self._tenth = -1

    def __call__(self, done: float, total: float, note: str = "", /) -> None:
        self._check()
        now = time.monotonic()
        when, before = self._began = self._began or (now, done)
        tenth = int(10 * done // total)
        if tenth > self._tenth:
            self._tenth = tenth
            left = f", {(now - when) * (total - done) / (done - before):.0f} s left" if done > before else ""
            say(f"{self._label}: {int(100 * done // total)} %{left}{f', {note}' if note else ''}")


@contextmanager
def _interrupts() -> Iterator[Callable[[], None]]:
    """Make sure that Ctrl-C ends a run: gives a check that raises KeyboardInterrupt if there was one.

    Python drops an interrupt that falls into a callback of a weak reference, of which Mesa and Numba have many.
    """
    if threading.current_thread() is not threading.main_thread():  # signals come to the main thread alone
        yield lambda: None
        return
    asked = False

    def note(_number: int, _frame: object) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    before, hook = signal.signal(signal.SIGINT, note), sys.unraisablehook
    sys.unraisablehook = lambda dropped: None if isinstance(dropped.exc_value, KeyboardInterrupt) else hook(dropped)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = hook
