"""Orders from HTTP to COMPLETED through all that `make run` starts, beside the same saga as a chain of Celery tasks."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.client import Call, send
from benchmarks.report import Report, ratio
from benchmarks.shop import Shop, Site, filled, wait_until, web, whole_stack

PART = "saga"
OURS, CHAIN = "ours", "a chain of Celery tasks"
# What work on orders beside the web: the relay and the consumers of stock, payments and orders.
WORKERS = 4
# Before the clock starts, so that all processes have done each step.
WARM_UP_ORDERS = 100
MOST_LINES = 3
ORDERS_PATH = "/api/v1/orders/"
SEED = 5

COMPLETED = "SELECT count(*) FROM orders_order WHERE status = 'COMPLETED'"
# Those of which something is left to be done, seen by a small index.
UNFINISHED = "SELECT count(*) FROM orders_order WHERE deadline_at IS NOT NULL"
HELD = "SELECT count(*) FROM stock_reservation WHERE status = 'HELD'"


@dataclass(frozen=True)
class Figures:
    """What one run has found."""

    # Orders a second, from the first request to the last payment, and the CPU time of one.
    flow: float
    cpu_seconds: float
    # The same when all were placed before, from the moment at which they are let loose.
    backlog: float


def run(bench: Bench, report: Report, orders: int) -> None:
    """Measure both in turns."""
    ways: dict[str, Callable[[Shop], AbstractContextManager[Site]]] = {OURS: whole_stack, CHAIN: celery_chain}
    found: dict[str, list[Figures]] = {way: [] for way in ways}
    for number in range(bench.rounds):
        for way in ways if number % 2 else reversed(ways):
            with filled(bench) as shop, ways[way](shop) as site:
                figures = once(shop, site, orders)
            found[way].append(figures)
            bench.say(f"{way}: {figures.flow:,.0f} orders/s, {figures.backlog:,.0f} when they were placed before")
    flow, backlog = ({way: [getattr(one, name) for one in found[way]] for way in ways} for name in ("flow", "backlog"))
    for way in ways:
        report.add(PART, f"{way}, placed meanwhile", "orders/s", flow[way], group="Orders placed and completed")
        report.add(PART, f"{way}, placed before", "orders/s", backlog[way], group="Orders completed")
        costs = [1_000 * one.cpu_seconds for one in found[way]]
        report.add(PART, f"{way}, placed meanwhile: CPU without the engines", "ms/order", costs)
    report.aim(PART, "from placed to COMPLETED, by the chain", ratio(backlog[OURS], backlog[CHAIN]), at_least=5)


def once(shop: Shop, site: Site, orders: int) -> Figures:
    """Place orders while all work, then as many for which all are let loose together."""
    chance = random.Random(SEED)
    place(shop, site, new_orders(shop, chance, WARM_UP_ORDERS))
    wait_for_completed(shop, site, WARM_UP_ORDERS)

    began_at, cpu_before = time.perf_counter(), site.cpu_seconds()
    place(shop, site, new_orders(shop, chance, orders))
    wait_for_completed(shop, site, WARM_UP_ORDERS + orders)
    seconds, cpu_seconds = time.perf_counter() - began_at, site.cpu_seconds() - cpu_before
    wait_for_sold(shop, site)

    with site.backed_up():
        place(shop, site, new_orders(shop, chance, orders))
        began_at = time.perf_counter()
    wait_for_completed(shop, site, WARM_UP_ORDERS + 2 * orders)
    backlog_seconds = time.perf_counter() - began_at
    wait_for_sold(shop, site)

    if not (audit := shop.audit())["ok"]:
        raise RuntimeError(f"the books do not add up: {audit}")
    return Figures(orders / seconds, cpu_seconds / orders, orders / backlog_seconds)


def new_orders(shop: Shop, chance: random.Random, number: int) -> list[Call]:
    """Return calls that place orders of a few lines each."""
    calls = []
    for _ in range(number):
        skus = chance.sample(shop.skus, chance.randint(1, MOST_LINES))
        items = [{"sku": sku, "quantity": chance.randint(1, 3)} for sku in skus]
        calls.append(Call("POST", ORDERS_PATH, chance.choice(shop.customers), {"items": items}))
    return calls


def place(shop: Shop, site: Site, calls: Sequence[Call]) -> None:
    """Place orders; raises RuntimeError unless all are taken."""
    answers = send(site.address, calls)
    if answers.statuses != {202: len(calls)}:
        raise RuntimeError(f"orders were not taken: {answers.statuses}")
    shop.bench.say(f"placed at {answers.rate:,.0f} orders/s")


def wait_for_completed(shop: Shop, site: Site, orders: int) -> None:
    """Block until no order is on its way; raises RuntimeError unless so many are COMPLETED."""
    wait_until(lambda: shop.number(UNFINISHED) == 0, site.watch, progress=lambda: shop.number(UNFINISHED))
    if (completed := shop.number(COMPLETED)) != orders:
        raise RuntimeError(f"{completed} of {orders} orders are completed")


def wait_for_sold(shop: Shop, site: Site) -> None:
    """Block until what was paid is sold, which is a little later."""
    wait_until(lambda: shop.number(HELD) == 0, site.watch, progress=lambda: shop.number(HELD))


@contextmanager
def celery_chain(shop: Shop) -> Iterator[Site]:
    """Run a web and a Celery worker with as many processes as work on our orders."""
    celery = ["-m", "celery", "--quiet", "-A", "benchmarks.baselines.chain", "worker", "--loglevel", "WARNING"]
    with (
        shop.start("chain-worker", [*celery, "--concurrency", str(WORKERS)]) as worker,
        web(shop, "benchmarks.baselines.chain_web") as site,
    ):
        yield Site(site.address, [worker, *site.workers], worker.family)
