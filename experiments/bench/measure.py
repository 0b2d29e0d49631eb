"""The measurement: who runs on what, in turn."""

from collections.abc import Sequence
from statistics import median

from experiments.bench import engine, tape
from experiments.bench.peers import PEERS, Peer, PeerFailed
from experiments.bench.peers import play as play_peer
from experiments.bench.reference import reference
from experiments.bench.report import Figure, Report, check
from experiments.bench.tape import Pass, Tape

REACH_OF_REFERENCE = 0.4
REACH_IN_BATCHES = 1e6
REACH_COLD = 20.0
REACH_WARM = 1.5


def measure(names: Sequence[str], repeat: int, peers: bool) -> Report:
    """Time the exchange on the tapes of these names, `repeat` passes each, in turn with the C++ reference.

    Raises:
        WrongTotals: where volume, trades or the book at the end are not the tape's.
    """
    report = Report("Medians. Ratio: the exchange in one pass to this row, on the same tape.")
    report.note_load()
    for name in names:
        made = tape.make(name)
        rate = _in_turn(report, made, repeat)
        if peers:
            for peer in PEERS:
                if not (peer.simulator and name != names[0]):
                    _beside(report, peer, made, rate, repeat)
    _in_batches(report, tape.make(names[0]), repeat)
    cold, warm = engine.time_start(min(repeat, 3))
    report.figures += [
        Figure("cold start: compile all", "", cold, "s", None, "< 20 s", cold < REACH_COLD),
        Figure("warm start: import, match", "", warm, "s", None, "< 1.5 s", warm < REACH_WARM),
    ]
    return report


def _in_turn(report: Report, made: Tape, repeat: int) -> float:
    """Our pass and the reference's, one after the other, `repeat` times. Gives our messages a second."""
    messages = made.messages()
    ours: list[Pass] = []
    bare: list[Pass] = []
    with reference(report, made) as book:
        for turn in range(repeat + 1):
            passes = [(ours, engine.play(messages), "the exchange")]
            if book is not None:
                passes.append((bare, book.play(), "the C++ reference"))
            for taken, done, who in passes:
                check(who, made, done.totals._asdict())
                if turn > 0:  # the first turn fills caches
                    taken.append(done)
    rate = len(messages) / median(done.seconds for done in ours)
    report.figures.append(Figure("exchange, one pass", made.name, rate, "messages/s"))
    if bare:
        bound = len(messages) / median(done.seconds for done in bare)
        ratio = median(theirs.seconds / own.seconds for own, theirs in zip(ours, bare, strict=True))
        reach = f"{REACH_OF_REFERENCE:.2f}"
        report.figures.append(
            Figure("C++ reference", made.name, bound, "messages/s", ratio, reach, ratio >= REACH_OF_REFERENCE)
        )
    return rate


def _in_batches(report: Report, made: Tape, repeat: int) -> None:
    messages = made.messages()
    engine.play_in_batches(messages[: 10 * engine.BATCH])
    rate = len(messages) / median(engine.play_in_batches(messages) for _ in range(min(repeat, 3)))
    what = f"OrderBook, batches of {engine.BATCH}"
    report.figures.append(Figure(what, made.name, rate, "messages/s", None, "1.00 M/s", rate >= REACH_IN_BATCHES))


def _beside(report: Report, peer: Peer, made: Tape, ours: float, repeat: int) -> None:
    """A peer on the tape (a simulator: on its own agents), and how many times as fast our pass is."""
    what = f"{peer.package} {peer.version}"
    try:
        done = play_peer(peer, made, min(repeat, 3))
    except PeerFailed as reason:
        report.note(f"{what} left out: {reason}")
        return
    check(peer.package, made, done.totals)
    rate = done.messages / median(done.seconds)
    if peer.simulator:
        report.note(f"{what} is a whole simulator: orders of 1 000 agents, with the agents; ours is the exchange alone")
        report.figures.append(Figure(what, "its own", rate, "orders/s", ours / rate))
    else:
        report.figures.append(Figure(what, made.name, rate, "messages/s", ours / rate))
