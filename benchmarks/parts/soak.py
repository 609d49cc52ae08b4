"""Orders that come to every end, through all processes of `make run`: is each final, and do the books add up?"""

import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any

from benchmarks.bench import Bench
from benchmarks.client import Call, send
from benchmarks.parts.saga import SEED, UNFINISHED, new_orders
from benchmarks.report import Report
from benchmarks.seed import SCARCE, SCARCE_UNITS
from benchmarks.shop import Shop, Site, filled, wait_until, whole_stack

PART = "soak"
# One order in so many is cancelled, one is placed without money, one asks for more than there is.
SHARE = 10
# The longest time after its answer at which an order is cancelled: some are then on their way and some completed.
CANCEL_WITHIN_SECONDS = 3.0

ENDS = """
    SELECT concat_ws(' ', status, cancel_reason), count(*) FROM orders_order GROUP BY status, cancel_reason ORDER BY 1
"""
EVENTS_LEFT = "SELECT count(*) FROM outbox_outboxevent"
DEAD_LETTERS = "SELECT count(*) FROM failed_messages"


def run(bench: Bench, report: Report, orders: int) -> None:
    """Place the orders, let all come to rest, and count."""
    with filled(bench) as shop, whole_stack(shop) as site:
        share, calls = orders // SHARE, mixed(shop, orders)
        began_at = time.perf_counter()
        answers = send(site.address, calls)
        bench.say(f"placed at {answers.rate:,.0f} orders/s; cancels were answered {dict(answers.cancels)}")
        wait_until(lambda: shop.number(UNFINISHED) == 0, site.watch, progress=lambda: shop.number(UNFINISHED))
        seconds = time.perf_counter() - began_at
        audit = settled_audit(shop, site)
        ends: Counter[str] = Counter(dict(shop.db.execute(ENDS).fetchall()))
        letters, events_left = shop.number(DEAD_LETTERS), shop.number(EVENTS_LEFT)

    report.add(PART, "orders, from the first request to the last that is final", "orders/s", [orders / seconds])
    for end, number in sorted(ends.items()):
        report.add(PART, end, "orders", [number])
    expected = {
        "COMPLETED": orders - 3 * share,
        "CANCELLED CUSTOMER": share,
        "CANCELLED PAYMENT_FAILED": share,
        "CANCELLED OUT_OF_STOCK": share,
    }
    report.aim(PART, "requests that were refused", refused(answers.statuses) + refused(answers.cancels), at_most=0)
    report.aim(PART, "orders that are not there", orders - ends.total(), at_most=0)
    otherwise = sum(abs(number - ends[end]) for end, number in expected.items())
    report.aim(PART, "orders that came to another end", otherwise, at_most=0)
    off = audit["findings"] + audit["in_flight"]
    for finding in off[:10]:
        bench.say(f"audit: {finding}")
    report.aim(PART, "findings of audit --strict", len(off), at_most=0)
    report.aim(PART, "dead letters, of which there must be none", letters, at_most=0)
    report.aim(PART, "events that were not sent", events_left, at_most=0)


def mixed(shop: Shop, orders: int) -> list[Call]:
    """Return calls for orders of all kinds, in any order."""
    chance = random.Random(SEED)
    calls = new_orders(shop, chance, orders)
    share = orders // SHARE
    for place in range(share):
        calls[place] = replace(calls[place], cancel_after_seconds=chance.uniform(0, CANCEL_WITHIN_SECONDS))
    for place in range(share, 2 * share):
        calls[place] = replace(calls[place], token=chance.choice(shop.poor))
    for place in range(2 * share, 3 * share):
        calls[place] = replace(calls[place], body=with_too_many(calls[place].body))
    chance.shuffle(calls)
    return calls


def with_too_many(body: dict[str, Any] | None) -> dict[str, Any]:
    """Return an order that asks for the same, and for more than there is of the scarce product."""
    assert body is not None
    return {"items": [*body["items"], {"sku": SCARCE, "quantity": SCARCE_UNITS + 1}]}


def settled_audit(shop: Shop, site: Site) -> dict[str, Any]:
    """Return what the audit finds once nothing is on its way, or once nothing happens any more."""
    audit = shop.audit()

    def is_settled() -> bool:
        nonlocal audit
        audit = shop.audit()
        return bool(audit["ok"]) and shop.number(EVENTS_LEFT) == 0

    with suppress(TimeoutError):
        wait_until(is_settled, site.watch, progress=lambda: (audit["findings"], audit["in_flight"]))
    return audit


def refused(statuses: Counter[int]) -> int:
    """Return how many answers are none of 202."""
    return statuses.total() - statuses[202]
