"""GET products/{sku}/ from the cache beside the same view with the cache switched off."""

from contextlib import ExitStack

from benchmarks.bench import Bench
from benchmarks.client import Call, repeat
from benchmarks.report import Report, ratio
from benchmarks.shop import filled, web

PART = "products"
CACHED, UNCACHED = "ours, from the cache", "from PostgreSQL"
WARM_UP_SECONDS = 2.0
# Few, so that each is asked for often while its page is kept, however slow the machine: what is asked for once is in no
# cache.
PRODUCTS = 20


def run(bench: Bench, report: Report, seconds: int) -> None:
    """Measure both in turns, each served by a web of its own."""
    rates: dict[str, list[float]] = {CACHED: [], UNCACHED: []}
    costs: dict[str, list[float]] = {CACHED: [], UNCACHED: []}
    with filled(bench) as shop, ExitStack() as running:
        calls = [Call("GET", f"/api/v1/products/{sku}/") for sku in shop.skus[:PRODUCTS]]
        sites = {
            subject: running.enter_context(web(shop, PRODUCT_CACHE=str(subject == CACHED).lower()))
            for subject in (CACHED, UNCACHED)
        }
        for site in sites.values():
            repeat(site.address, calls, WARM_UP_SECONDS)
        for number in range(bench.rounds):
            for subject in sites if number % 2 else reversed(sites):
                cpu_before = sites[subject].cpu_seconds()
                answers = repeat(sites[subject].address, calls, seconds)
                if answers.statuses.keys() != {200}:
                    raise RuntimeError(f"{subject}: products were not found: {answers.statuses}")
                rates[subject].append(answers.rate)
                costs[subject].append(1_000 * (sites[subject].cpu_seconds() - cpu_before) / answers.statuses.total())
                bench.say(f"{subject}: {answers.rate:,.0f} requests/s")
    for subject in (CACHED, UNCACHED):
        report.add(PART, subject, "requests/s", rates[subject], group="GET products/{sku}/")
        report.add(PART, f"{subject}: CPU of the web", "ms/request", costs[subject])
    cached = ratio(rates[CACHED], rates[UNCACHED])
    report.aim(PART, "GET products/{sku}/ from the cache by that from PostgreSQL", cached, at_least=3)
