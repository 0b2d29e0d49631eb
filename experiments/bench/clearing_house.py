"""The bench of the clearing house: the standard tape with owners, a fall through a dense band, funding, memory."""

import os
import subprocess
import sys
from statistics import median
from time import perf_counter

from abm.exchange.messages import Forced
from experiments.bench import accounts, engine, tape
from experiments.bench.quiet import DISTURBED, Probe
from experiments.bench.reference import reference
from experiments.bench.report import Figure, Report, WrongTotals, check
from experiments.bench.tape import Pass

SIZES = (10_000, 100_000, 1_000_000)
LONGS = 500_000
DENSITIES = (25, 500)
"""Positions at each tick of the band: a million over a twentieth of 80 000 dollars, at a tick of ten cents, and twenty times as dense."""

REACH_OF_REFERENCE = 0.25
REACH_GROWTH = 2.0
REACH_LIQUIDATIONS = 5e5
REACH_BYTES = 300
REACH_FUNDING = 50.0


def measure(repeat: int) -> Report:
    """Time the exchange with open accounts, `repeat` undisturbed passes each, in turn with the C++ reference.

    Raises:
        WrongTotals: where volume, trades or the book at the end are not the tape's, or not everybody in the band was liquidated.
    """
    report = Report(
        "Medians, and of the tape also that of every pass and the fastest pass. Ratio: this row to the C++ reference, which has no accounts, in the "
        "same turn or by its own fastest pass. What else a machine does only adds to a pass, and adds more to one whose accounts outgrow its nearest "
        "caches, so that passes of the tape beside which random reads of memory are slow are left out of the medians."
    )
    report.note_load()
    _memory(report, SIZES[-1])
    _in_turn(report, repeat, SIZES)
    for a_tick in DENSITIES:
        for style in ("full", "ladder"):
            _liquidations(report, repeat, LONGS, a_tick, style)
    return report


def _in_turn(report: Report, repeat: int, sizes: tuple[int, ...]) -> None:
    """The tape at each size and by the reference, one after the other, each turn in another order; funding after each pass at the last size.

    It goes on until there are `repeat` undisturbed passes of each size, for three times as many turns at most.
    """
    made = tape.make("standard")
    tapes = {size: accounts.owned(made, size) for size in sizes}
    taken: dict[int, list[Pass]] = {size: [] for size in sizes}
    reads: dict[int, list[float]] = {size: [] for size in (0, *sizes)}  # 0: the reference
    bare: list[Pass] = []
    funding: list[float] = []
    probe = Probe()
    with reference(report, made) as book:
        for turn in range(3 * repeat + 1):
            first = turn % len(sizes)
            for size in (*sizes[first:], *sizes[:first]):
                world = accounts.opened(size)
                done = engine.play(tapes[size], world.exchange)
                beside = probe.seconds()
                check(f"the exchange with {size:,} accounts", made, done.totals._asdict())
                paid = _seconds_of_funding(world) if size == sizes[-1] else None
                if turn == 0:  # the first turn fills caches
                    continue
                taken[size].append(done)
                reads[size].append(beside)
                if paid is not None:
                    funding.append(paid)
            if book is not None:
                done = book.play()
                beside = probe.seconds()
                check("the C++ reference", made, done.totals._asdict())
                if turn > 0:
                    bare.append(done)
                    reads[0].append(beside)
            if turn > 0 and min(map(len, _quiet(reads).values())) >= repeat:
                break
    _tell(report, len(tapes[sizes[0]]), taken, bare, _quiet_enough(report, reads, min(repeat, 3)))
    value = 1_000 * median(funding)
    report.figures.append(
        Figure(
            f"funding of {sizes[-1]:,}",
            "",
            value,
            "ms",
            None,
            f"< {REACH_FUNDING:.0f} ms",
            value < REACH_FUNDING,
        )
    )


def _quiet(reads: dict[int, list[float]]) -> dict[int, list[int]]:
    """Turns (from 0) in which neither a size's pass nor the reference's (size 0) was disturbed, of each size."""
    limit = DISTURBED * min(map(min, filter(None, reads.values())))
    bad = {turn for turn, seconds in enumerate(reads[0]) if seconds > limit}
    return {
        size: [turn for turn, seconds in enumerate(beside) if seconds <= limit and turn not in bad]
        for size, beside in reads.items()
        if size
    }


def _quiet_enough(report: Report, reads: dict[int, list[float]], least: int) -> dict[int, list[int]]:
    """The same, or all turns where a size has fewer than `least`, with a note either way."""
    quiet, turns = _quiet(reads), len(next(reversed(reads.values())))
    if min(map(len, quiet.values())) < least:
        report.note(
            "The machine's memory was hardly ever undisturbed: every pass counts, and every figure is lower than it could be."
        )
        return {size: list(range(turns)) for size in quiet}
    report.note(
        f"Passes of the tape left out as disturbed: {turns * len(quiet) - sum(map(len, quiet.values()))} of {turns * len(quiet)}."
    )
    return quiet


def _tell(
    report: Report, messages: int, taken: dict[int, list[Pass]], bare: list[Pass], turns: dict[int, list[int]]
) -> None:
    for size, passes in taken.items():
        rate = messages / median(passes[turn].seconds for turn in turns[size])
        ratio = median(bare[turn].seconds / passes[turn].seconds for turn in turns[size]) if bare else None
        report.figures.append(
            Figure(
                f"{size:,} accounts",
                "standard",
                rate,
                "messages/s",
                ratio,
                f"{REACH_OF_REFERENCE:.2f}" if bare else "",
                None if ratio is None else ratio >= REACH_OF_REFERENCE,
            )
        )
        every = [theirs.seconds / own.seconds for own, theirs in zip(passes, bare, strict=True)] if bare else []
        report.figures.append(
            Figure(
                f"{size:,}, every pass",
                "standard",
                messages / median(done.seconds for done in passes),
                "messages/s",
                median(every) if every else None,
            )
        )
        fastest, bound = min(done.seconds for done in passes), min((done.seconds for done in bare), default=None)
        report.figures.append(
            Figure(
                f"{size:,}, fastest pass",
                "standard",
                messages / fastest,
                "messages/s",
                bound / fastest if bound else None,
            )
        )
    if bare:
        report.figures.append(
            Figure("C++ reference", "standard", messages / median(done.seconds for done in bare), "messages/s")
        )
    few, many = min(taken), max(taken)
    growth = median(taken[many][turn].seconds for turn in turns[many]) / median(
        taken[few][turn].seconds for turn in turns[few]
    )
    report.figures.append(
        Figure(
            f"time to that at {few:,}",
            "standard",
            growth,
            "times",
            None,
            f"<= {REACH_GROWTH:.1f}",
            growth <= REACH_GROWTH,
        )
    )


def _seconds_of_funding(world: accounts.World) -> float:
    start = perf_counter()
    world.house.pay_funding(accounts.NAME, rate=0.0001)
    return perf_counter() - start


def _liquidations(report: Report, repeat: int, longs: int, a_tick: int, style: str) -> None:
    rates: list[float] = []
    for _ in range(min(repeat, 3)):
        world, sales = accounts.crowded(longs, a_tick, style)
        start = perf_counter()
        liquidations = world.exchange.match(sales).liquidations
        seconds = perf_counter() - start
        left = int((world.exchange.accounts.position[accounts.MAKERS : accounts.MAKERS + longs] != 0).sum())
        count = int((liquidations["what"] == Forced.LIQUIDATED).sum())
        if style == "full" and (left, count, len(liquidations)) != (0, longs, longs):
            raise WrongTotals(
                f"the fall through the band: {left} positions left, {count} liquidations of {longs}, {len(liquidations) - count} other records"
            )
        rates.append(count / seconds)
    rate = median(rates)
    full = style == "full"
    report.figures.append(
        Figure(
            f"liquidations, {style}",
            f"{a_tick} a tick",
            rate,
            "liquidations/s",
            None,
            f"{REACH_LIQUIDATIONS / 1e6:.2f} M/s" if full else "",
            rate >= REACH_LIQUIDATIONS if full else None,
        )
    )


def _memory(report: Report, size: int) -> None:
    """In a process of its own, since one that has done other things has memory to use again."""
    program = f"from experiments.bench.memory import weigh; print(*weigh({size}))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    tables, grown = map(int, done.stdout.split())
    for what, value in (("tables", tables), ("process", grown)):
        if value < 0:
            report.note("Memory of the process left out: this system does not tell")
            continue
        each = value / size
        report.figures.append(
            Figure(f"{what}, an account", "", each, "bytes", None, f"<= {REACH_BYTES}", each <= REACH_BYTES)
        )
