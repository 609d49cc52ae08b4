"""One run: the processes, the load, and what became of it."""

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import httpx
from prometheus_client.parser import text_string_to_metric_families

from coupons import services
from coupons.benchmark import figures, order, people
from coupons.benchmark.crew import LOOPBACK, Crew, working
from coupons.benchmark.figures import Figures, Moment
from coupons.benchmark.load import Load
from coupons.benchmark.place import Place, inside
from coupons.models import IssuedCoupon, Request
from outbox.worker import Stop

Status = Request.Status

CODE, WARM_UP = "BENCHMARK", "WARM-UP"
# With nothing decided for so long, what waits is lost.
STALLED_SECONDS = 60.0
LOOK_SECONDS = 0.01
# Parts of the time in which progress is told.
MOMENTS = 10
# The time that batches took, with their transactions: of Kafka's, and of Redis' streams.
BATCHES = ("outbox_consumer_batch_seconds_sum", "coupons_stream_batch_seconds_sum")


@dataclass(frozen=True)
class Task:
    """What each queue is to be measured by. `tokens` are those of the users, in the order in which they ask."""

    quantity: int
    connections: int
    consumers: int
    tokens: Sequence[str]
    warm_up_tokens: Sequence[str]


def prepare(model: Place, *, users: int, quantity: int, connections: int, consumers: int, seed: int) -> Task:
    """Fill the place that is copied for each queue: all of them have the same users and the same coupon."""
    with inside(model):
        tokens, warm_up_tokens = people.add("user", users), people.add("early", connections)
        services.create(code=CODE, name="Benchmark", quantity=quantity, percent_off=10)
        services.create(code=WARM_UP, name="Before the clock starts", quantity=connections)
    Random(seed).shuffle(tokens)
    return Task(quantity, connections, consumers, tokens, warm_up_tokens)


def run(task: Task, place: Place, queue: str, stop: Stop) -> Figures:
    """Let all users ask by this queue, and return what came of it. Blocks."""
    with working(place, queue=queue, consumers=task.consumers, stop=stop) as (crew, web, consumers):
        # All processes, and all connections to the engines, have done before what is measured.
        Load(web, WARM_UP, task.warm_up_tokens, task.connections).send(crew.watch)
        crew.wait_until(lambda: not Request.objects.queued().exists(), "the first requests are answered")
        spent_before = _spent_seconds(consumers)
        load = Load(web, CODE, task.tokens, task.connections)
        load.send(crew.watch)
        _wait_until_final(crew)
        final_seconds = load.seconds()
        spent_seconds = _spent_seconds(consumers) - spent_before
        return _figures(task, queue, load, final_seconds, spent_seconds)


def _wait_until_final(crew: Crew) -> None:
    """Block until no request waits, or none of them is decided any more."""
    waiting, changed_at = -1, time.monotonic()
    while (now := Request.objects.queued().count()) and time.monotonic() - changed_at < STALLED_SECONDS:
        crew.watch()
        if now != waiting:
            waiting, changed_at = now, time.monotonic()
        time.sleep(LOOK_SECONDS)


def _spent_seconds(consumers: Sequence[int]) -> float:
    """Return for how long the consumers, of which these are the ports, have been deciding so far."""
    pages = [httpx.get(f"http://{LOOPBACK}:{port}/metrics", trust_env=False).raise_for_status() for port in consumers]
    return sum(
        sample.value
        for page in pages
        for family in text_string_to_metric_families(page.text)
        for sample in family.samples
        if sample.name in BATCHES
    )


def _figures(task: Task, queue: str, load: Load, final_seconds: float, spent_seconds: float) -> Figures:
    rows = Request.objects.filter(code=CODE).values_list("pk", "status", "finished_at")
    decided = [(pk, status, finished_at) for pk, status, finished_at in rows if finished_at]
    statuses = {pk: status for pk, status, _ in decided}
    owners = list(IssuedCoupon.objects.filter(coupon=CODE).values_list("user_id", flat=True))
    accepted, refused = ([answer for answer in load.answers if answer.status == status] for status in (202, 409))
    outcomes, refusals = Counter(statuses.values()), Counter(answer.code for answer in refused)
    return Figures(
        queue=queue,
        users=len(task.tokens),
        quantity=task.quantity,
        accept_ms=figures.percentiles([1_000 * answer.latency_seconds for answer in accepted]),
        refuse_ms=figures.percentiles([1_000 * answer.latency_seconds for answer in refused]),
        final_seconds=final_seconds,
        processor_ms_per_request=1_000 * spent_seconds / max(len(decided), 1),
        # What is decided together has one time.
        batch_sizes=list(Counter(finished_at for _, _, finished_at in decided).values()),
        outcomes=dict(outcomes),
        refused=dict(refusals),
        failed=len(load.answers) - len(accepted) - len(refused),
        lost=len({answer.request_id for answer in accepted} - statuses.keys()),
        oversold=figures.oversold(owners, task.quantity),
        unsold=figures.unsold(owners, task.quantity, outcomes[Status.OUT_OF_STOCK] + refusals["out_of_stock"]),
        violations=figures.violations(order.of(queue, CODE), statuses),
        progress=_progress(
            final_seconds,
            [answer.at_seconds for answer in load.answers if answer.status],
            [answer.at_seconds for answer in refused]
            + [(finished_at - load.began_at).total_seconds() for _, _, finished_at in decided],
        ),
    )


def _progress(seconds: float, answered: Sequence[float], final: Sequence[float]) -> list[Moment]:
    """Return how many had an answer, and how many their final one, at each of some moments."""
    by_time = sorted(answered), sorted(final)
    ends = [seconds * number / MOMENTS for number in range(1, MOMENTS + 1)]
    return [Moment(end, *(bisect_right(times, end) for times in by_time)) for end in ends]
