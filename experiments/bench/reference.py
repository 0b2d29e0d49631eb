"""The C++ reference book: compiled on the spot, and kept waiting between passes so that ours take turns with it."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np

from experiments.bench.report import Report
from experiments.bench.tape import Ints, Pass, Tape, Totals

SOURCE = Path(__file__).with_name("reference_book.cpp")


class NoCompiler(Exception):
    """There is no C++ compiler here, or it could not compile the reference; the message says which."""


class ReferenceBook:
    """The reference on one tape. A context: the program and its tape lie in a temporary folder until it closes.

    Raises:
        NoCompiler: where it cannot be made.
    """

    def __init__(self, tape: Tape) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="abm-bench-")
        folder = Path(self._folder.name)
        try:
            program = _compiled(folder)
        except NoCompiler:
            self._folder.cleanup()
            raise
        tape.rows.tofile(folder / "tape")
        self._process = subprocess.Popen(
            [program, folder / "tape"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def play(self) -> Pass:
        """One pass over the tape by a new book."""
        return self._ask("")

    def fills(self) -> Ints:
        """One pass, and its fills in order: rows of maker, taker, price in ticks, lots."""
        path = Path(self._folder.name) / "fills"
        self._ask(str(path))
        return np.fromfile(path, np.int32).reshape(-1, 4)

    def _ask(self, line: str) -> Pass:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        seconds, *totals = self._process.stdout.readline().split()
        return Pass(float(seconds), Totals(*map(int, totals)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._folder.cleanup()


@contextmanager
def reference(report: Report, made: Tape) -> Iterator[ReferenceBook | None]:
    """The reference on a tape, or None and a note where there is no compiler."""
    try:
        book = ReferenceBook(made)
    except NoCompiler as reason:
        report.note(f"C++ reference on the {made.name} tape left out: {reason}")
        yield None
    else:
        with book:
            yield book


def _compiled(folder: Path) -> Path:
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        raise NoCompiler("no C++ compiler here (c++, g++ or clang++)")
    program = folder / "reference_book"
    for tuning in (["-march=native"], ["-mcpu=native"], []):  # what a compiler calls this machine differs
        command = [compiler, "-O3", *tuning, "-std=c++20", str(SOURCE), "-o", str(program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return program
    raise NoCompiler(f"{compiler} could not compile {SOURCE.name}: {done.stderr.strip().splitlines()[0]}")
