"""Coupons: the processor beside the same one a request at a time, and asking for one beside POST orders/."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from uuid import UUID, uuid4

from django.conf import settings

from benchmarks.bench import Bench
from benchmarks.client import Call, repeat
from benchmarks.parts.saga import SEED, new_orders
from benchmarks.report import Report, ratio
from benchmarks.shop import Shop, filled, web

PART = "coupons"
BATCH, SINGLE = "ours, in batches of 500", "ours, one at a time"
BATCH_SIZE = 500
# One at a time is so slow that a tenth is enough to know its rate.
SINGLE_SHARE = 10
CODE = "PROCESSOR"

SECONDS, WARM_UP_SECONDS = 10.0, 2.0
ORDERS = 1_000
# A customer asks once for each, so these are enough for a turn at 2,400 requests a second.
COUPONS = 120
ASKS = {"kafka": "POST coupons/{code}/issue/, to Kafka", "redis": "POST coupons/{code}/issue/, to Redis"}

USERS = """
    INSERT INTO accounts_user (id, username, email, password, is_superuser, is_staff, is_active, first_name, last_name,
                               language, telegram_chat_id, date_joined)
    SELECT gen_random_uuid(), 'asks-' || number, 'asks-' || number || '@example.com', '!', false, false, true, '', '',
           'en', '', now()
    FROM generate_series(1, %s) AS number
"""
ADD_COUPON = """
    INSERT INTO coupons_coupon (code, name, quantity, issued, version, minimum_total, is_enabled, created_at)
    VALUES (%s, 'Benchmark', %s, 0, 1, 0, true, now())
"""
# Ids in the order of the users: those of the queue.
REQUESTS = """
    INSERT INTO coupons_request (id, code, user_id, queue, status, stream_id, created_at)
    SELECT uuidv7(), %s, id, 'KAFKA', 'QUEUED', '', now() FROM accounts_user WHERE username LIKE 'asks-%%' LIMIT %s
    RETURNING id
"""
EMPTY = "TRUNCATE coupons_issuedcoupon, coupons_request, coupons_coupon, outbox_outboxevent RESTART IDENTITY CASCADE"


def run(bench: Bench, report: Report, requests: int) -> None:
    """Measure both."""
    processor(bench, report, requests)
    asking(bench, report)


def processor(bench: Bench, report: Report, requests: int) -> None:
    """Let the service decide the same requests in batches, and one at a time, in turns."""
    sizes = {BATCH: (BATCH_SIZE, requests), SINGLE: (1, max(1, requests // SINGLE_SHARE))}
    rates: dict[str, list[float]] = {subject: [] for subject in sizes}
    with users(bench, requests):
        for number in range(bench.rounds):
            for subject in sizes if number % 2 else reversed(sizes):
                size, count = sizes[subject]
                rates[subject].append(count / decide(bench, count, size))
                bench.say(f"{subject}: {rates[subject][-1]:,.0f} requests/s")
    for subject in sizes:
        report.add(PART, subject, "requests/s", rates[subject], group="Requests for a coupon decided")
    report.aim(PART, "the processor's rate by that of one at a time", ratio(*rates.values()), at_least=10)


@contextmanager
def users(bench: Bench, number: int) -> Iterator[None]:
    """Add users to the benchmarks' database, and delete them and what they asked for at the end."""
    bench.db.execute(USERS, (number,))
    bench.db.execute("VACUUM ANALYZE accounts_user")
    try:
        yield
    finally:
        bench.db.execute(EMPTY)
        bench.db.execute("DELETE FROM accounts_user WHERE username LIKE 'asks-%'")


def decide(bench: Bench, count: int, size: int) -> float:
    """Return for how long the service decides so many requests, of which the first half succeeds."""
    from coupons import services
    from coupons.models import Request

    # Nobody is marked yet, and no mark is in the way of others who use this Redis.
    settings.REDIS_PREFIX = f"bench-{uuid4().hex[:8]}-"
    bench.db.execute(EMPTY)
    bench.db.execute(ADD_COUPON, (CODE, count // 2))
    ids: list[UUID] = [pk for (pk,) in bench.db.execute(REQUESTS, (CODE, count))]
    bench.db.execute("VACUUM ANALYZE coupons_request")
    bench.db.execute("CHECKPOINT")
    began_at = time.perf_counter()
    for begin in range(0, count, size):
        services.decide(request_ids=ids[begin : begin + size])
    seconds = time.perf_counter() - began_at
    if (outcomes := Request.objects.by_outcome()) != {"SUCCESS": count // 2, "OUT_OF_STOCK": count - count // 2}:
        raise RuntimeError(f"requests were decided as {outcomes}")
    return seconds


def asking(bench: Bench, report: Report) -> None:
    """Ask for coupons and place orders in turns, served by the same processes, once with each queue."""
    for queue, subject in ASKS.items():
        orders = f"POST orders/, beside {queue}"
        rates: dict[str, list[float]] = {subject: [], orders: []}
        with filled(bench) as shop, web(shop, COUPON_QUEUE=queue) as site:
            placing = new_orders(shop, random.Random(SEED), ORDERS)
            repeat(site.address, placing, WARM_UP_SECONDS)
            repeat(site.address, fresh(shop, "WARM-UP"), WARM_UP_SECONDS)
            for number in range(bench.rounds):
                calls = {subject: fresh(shop, f"TURN-{number}"), orders: placing}
                for what in calls if number % 2 else reversed(calls):
                    shop.db.execute("CHECKPOINT")
                    answers = repeat(site.address, calls[what], SECONDS)
                    if answers.statuses.keys() != {202}:
                        raise RuntimeError(f"{what}: not all were taken: {answers.statuses}")
                    rates[what].append(answers.rate)
                    bench.say(f"{what}: {answers.rate:,.0f} requests/s")
        for what, values in rates.items():
            report.add(PART, what, "requests/s", values, group=f"Requests taken, COUPON_QUEUE={queue}")
        report.aim(PART, f"asking by {queue}, by POST orders/", ratio(*rates.values()), at_least=0.8)


def fresh(shop: Shop, name: str) -> list[Call]:
    """Add coupons of which there are enough for all, and return calls by which each customer asks for each of them."""
    codes = [f"{name}-{number}" for number in range(COUPONS)]
    for code in codes:
        shop.db.execute(ADD_COUPON, (code, len(shop.customers)))
    calls = [Call("POST", f"/api/v1/coupons/{code}/issue/", token) for code, token in product(codes, shop.customers)]
    random.Random(SEED).shuffle(calls)
    return calls
