"""The relay beside a bare pipelined loop, and beside django-outbox-pattern."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from benchmarks import backlog
from benchmarks.backlog import Passage
from benchmarks.bench import Bench, Installation
from benchmarks.processes import Worker
from benchmarks.processes import run as run_process
from benchmarks.report import Report, ratio

PART = "relay"
# What connects to Kafka, and is compiled by the broker's JVM, before the clock runs.
WARM_UP_EVENTS = 2_000
# The other library is so slow that a thirtieth is enough to know its rate.
PEER_SHARE = 30
MEGABYTE = 1_000_000

Start = Callable[[Installation], AbstractContextManager[list[Worker]]]


def run(bench: Bench, report: Report, events: int) -> None:
    """Measure rates, CPU time and memory."""
    ways: dict[str, Start] = {"bare loop": lambda place: place.baseline("relay"), "ours": lambda place: place.relays()}
    once(bench, ways["bare loop"], events)
    passages: dict[str, list[Passage]] = {name: [] for name in ways}
    memory: dict[str, list[Worker]] = {name: [] for name in ways}
    peer_rates = []
    for number in range(bench.rounds):
        # Who comes first changes from round to round.
        for name in sorted(ways, reverse=bool(number % 2)):
            passage, [worker] = once(bench, ways[name], events)
            passages[name].append(passage)
            memory[name].append(worker)
            bench.say(f"{name}: {passage.rate:,.0f} events/s")
        peer_rates.append(peer_rate(max(1_000, events // PEER_SHARE)))
        bench.say(f"django-outbox-pattern: {peer_rates[-1]:,.0f} events/s")

    rates = {name: [passage.rate for passage in found] for name, found in passages.items()}
    for name, found in passages.items():
        report.add(PART, name, "events/s", rates[name], group="Relay")
        report.add(PART, f"{name}: CPU", "µs/event", [1e6 * each.cpu_seconds / events for each in found])
        report.add(PART, f"{name}: peak RSS", "MB", [worker.rss / MEGABYTE for worker in memory[name]])
        report.add(PART, f"{name}: peak PSS", "MB", [worker.pss / MEGABYTE for worker in memory[name]])
    report.add(PART, "django-outbox-pattern into a null sink", "events/s", peer_rates, group="Relay")
    report.aim(PART, "rate by that of the bare pipelined loop", ratio(rates["ours"], rates["bare loop"]), at_least=0.85)
    report.aim(PART, "rate by that of django-outbox-pattern", ratio(rates["ours"], peer_rates), at_least=30)


def once(bench: Bench, start: Start, events: int) -> tuple[Passage, list[Worker]]:
    """Let fresh processes send so many events, and return how it went."""
    backlog.empty(bench.db)
    with bench.installation() as place, start(place) as workers:
        backlog.pass_through(bench.db, workers, place.topic, WARM_UP_EVENTS)
        return backlog.pass_through(bench.db, workers, place.topic, events), workers


def peer_rate(events: int) -> float:
    """Return how many events a second django-outbox-pattern publishes."""
    seconds: float = run_process(["-m", "benchmarks.baselines.peer", str(events)], {})["seconds"]
    return events / seconds
