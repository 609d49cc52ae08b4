"""A backlog of a million: does the relay's memory grow with it, and does the last event go as fast as the first?"""

from benchmarks import backlog
from benchmarks.backlog import Passage
from benchmarks.bench import Bench
from benchmarks.parts.relay import MEGABYTE, WARM_UP_EVENTS
from benchmarks.processes import Worker
from benchmarks.report import Report, ratio

PART = "backlog"
# The first and the last tenth are compared.
SHARE = 10
# The clock of the first tenth begins when so much of it has left: to be woken is no work.
START_SHARE = 50


def run(bench: Bench, report: Report, events: int) -> None:
    """Measure memory and the rates of the first and the last events."""
    slice_ = events // SHARE
    start = slice_ // START_SHARE
    passages: list[Passage] = []
    workers: list[Worker] = []
    for _ in range(bench.rounds):
        passage, worker = once(bench, events, marks=[start, slice_, events - slice_])
        bench.say(f"{events:,} events: {passage.rate:,.0f} events/s, {worker.rss / MEGABYTE:.0f} MB")
        passages.append(passage)
        workers.append(worker)

    first = [(slice_ - start) / (passage.marks[slice_] - passage.marks[start]) for passage in passages]
    last = [slice_ / (passage.seconds - passage.marks[events - slice_]) for passage in passages]
    report.add(PART, f"ours, first {slice_:,}", "events/s", first, group=f"Backlog of {events:,}")
    report.add(PART, f"ours, last {slice_:,}", "events/s", last, group=f"Backlog of {events:,}")
    rss = report.add(PART, "peak RSS", "MB", [worker.rss / MEGABYTE for worker in workers])
    report.add(PART, "peak PSS", "MB", [worker.pss / MEGABYTE for worker in workers])
    report.aim(PART, "peak memory in MB", rss.median, at_most=150)
    report.aim(PART, f"rate of the last {slice_:,} by that of the first", ratio(last, first), at_least=0.8)


def once(bench: Bench, events: int, marks: list[int]) -> tuple[Passage, Worker]:
    """Let a relay that has planned its statements on an empty table send so many events."""
    backlog.empty(bench.db)
    with bench.installation() as place, place.relays() as [worker]:
        backlog.pass_through(bench.db, [worker], place.topic, WARM_UP_EVENTS)
        return backlog.pass_through(bench.db, [worker], place.topic, events, marks=marks), worker
