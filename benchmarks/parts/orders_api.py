"""POST orders/ beside a bare view with the same authentication, validation, look-up and rows, but no outbox."""

import random
from dataclasses import replace

from benchmarks.bench import Bench
from benchmarks.client import repeat
from benchmarks.parts.saga import SEED, new_orders
from benchmarks.report import Report, ratio
from benchmarks.shop import filled, web

PART = "orders_api"
PATHS = {"ours": "/api/v1/orders/", "a bare view without an outbox": "/bare/orders/"}
# So many different orders are placed again and again.
ORDERS = 1_000
WARM_UP_SECONDS = 2.0


def run(bench: Bench, report: Report, seconds: int) -> None:
    """Measure both in turns, served by the same processes."""
    rates: dict[str, list[float]] = {subject: [] for subject in PATHS}
    costs: dict[str, list[float]] = {subject: [] for subject in PATHS}
    with filled(bench) as shop, web(shop, DJANGO_SETTINGS_MODULE="benchmarks.baselines.bare_settings") as site:
        orders = new_orders(shop, random.Random(SEED), ORDERS)
        calls = {subject: [replace(order, path=path) for order in orders] for subject, path in PATHS.items()}
        for subject in PATHS:
            repeat(site.address, calls[subject], WARM_UP_SECONDS)
        for number in range(bench.rounds):
            for subject in PATHS if number % 2 else reversed(PATHS):
                shop.db.execute("CHECKPOINT")
                cpu_before = site.cpu_seconds()
                answers = repeat(site.address, calls[subject], seconds)
                if answers.statuses.keys() != {202}:
                    raise RuntimeError(f"{subject}: orders were not taken: {answers.statuses}")
                rates[subject].append(answers.rate)
                costs[subject].append(1_000 * (site.cpu_seconds() - cpu_before) / answers.statuses.total())
                bench.say(f"{subject}: {answers.rate:,.0f} orders/s")
    for subject in PATHS:
        report.add(PART, subject, "orders/s", rates[subject], group="POST orders/")
        report.add(PART, f"{subject}: CPU of the web", "ms/order", costs[subject])
    ours, bare = rates.values()
    report.aim(PART, "POST orders/ by a bare view without an outbox", ratio(ours, bare), at_least=0.8)
