"""What publish() costs a transaction, beside an INSERT of the same rows. Reported; the issue sets no limit."""

from itertools import product

from benchmarks import backlog
from benchmarks.bench import Bench
from benchmarks.processes import commanded
from benchmarks.report import Report, ratio

PART = "publish"
WRITERS = (1, 8)
EVENTS = (1, 100)
WAYS = ("insert", "publish")


def run(bench: Bench, report: Report, seconds: int) -> None:
    """Measure transactions, one after another and many at the same time."""
    cases = list(product(WRITERS, EVENTS, (False, True)))
    found: dict[tuple[int, int, bool, str], list[float]] = {(*case, way): [] for case in cases for way in WAYS}
    with commanded(max(WRITERS), ["-m", "benchmarks.writer"], {}) as choir:
        for _ in range(bench.rounds):
            for writers, events, notify in cases:
                backlog.empty(bench.db)
                for way in WAYS:
                    command = {"way": way, "events": events, "notify": notify, "seconds": seconds}
                    answers = choir.ask(writers, command)
                    rate = sum(answer["transactions"] / answer["seconds"] for answer in answers)
                    found[writers, events, notify, way].append(rate)
            bench.say(f"{len(cases)} cases measured")

    for writers, events, notify in cases:
        case = f"{events} event{'s' * (events > 1)}, {writers} writer{'s' * (writers > 1)}"
        case += ", NOTIFY" if notify else ""
        bare, ours = (found[writers, events, notify, way] for way in WAYS)
        # Of one writer: how long it waits.
        report.add(PART, f"bare INSERT: {case}", "ms/transaction", [1_000 * writers / rate for rate in bare])
        report.add(PART, f"ours: {case}", "ms/transaction", [1_000 * writers / rate for rate in ours])
        report.add(PART, f"cost by that of the bare INSERT: {case}", "×", [ratio(bare, ours)])
