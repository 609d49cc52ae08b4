"""Orders while a group is stopped: are the others unhindered, and is each message sent once when it is back?"""

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.parts.saga import (
    COMPLETED,
    SEED,
    WARM_UP_ORDERS,
    new_orders,
    place,
    wait_for_completed,
    wait_for_sold,
)
from benchmarks.parts.soak import DEAD_LETTERS
from benchmarks.report import Report
from benchmarks.shop import Shop, Site, filled, wait_until, whole_stack
from devstack import ports

PART = "fanout"
# While all groups work, a share of the orders is enough to know the rate.
SHARE = 4
TOKEN = "1:bench"

ROWS = "SELECT count(*) FROM notifications_notification"
# By e-mail and in the app to the customer, of the payment and of the order, and by Telegram to the operators.
MESSAGES_OF_ORDER = {"EMAIL": 2, "IN_APP": 2, "TELEGRAM": 1}
OF_ORDERS = f"{ROWS} WHERE kind IN ('ORDER_COMPLETED', 'PAYMENT_SUCCEEDED')"
WAITING = f"{ROWS} WHERE status = 'PENDING'"
NOT_SENT = f"{ROWS} WHERE status <> 'SENT'"
SENT = "SELECT channel, id FROM notifications_notification WHERE channel <> 'IN_APP'"
# Orders that analytics knows to be completed.
COUNTED = "SELECT coalesce(sum(orders), 0) FROM analytics_sales"


def run(bench: Bench, report: Report, orders: int) -> None:
    """Place orders while all groups work, and then while notifications is stopped; start it again, and count."""
    with filled(bench) as shop:
        taken = bench.logs / "messages"
        taken.unlink(missing_ok=True)
        with sinks(shop, taken) as site:
            chance = random.Random(SEED)
            rate(shop, site, chance, WARM_UP_ORDERS)
            with_all = rate(shop, site, chance, max(1, orders // SHARE))
            done = WARM_UP_ORDERS + max(1, orders // SHARE)
            wait_until_told(shop, site, done)

            with site.backed_up():
                without = rate(shop, site, chance, orders)
                done += orders
                wait_until(lambda: shop.number(COUNTED) == done, site.watch, progress=lambda: shop.number(COUNTED))
                told_meanwhile = shop.number(OF_ORDERS) - (done - orders) * sum(MESSAGES_OF_ORDER.values())
            began_at = time.perf_counter()
            wait_until_told(shop, site, done)
            seconds = time.perf_counter() - began_at
            found = Counter(tuple(line.split()) for line in taken.read_text().splitlines())
            expected = {(channel, str(row_id)) for channel, row_id in shop.db.execute(SENT).fetchall()}
            not_sent, letters, audit = shop.number(NOT_SENT), shop.number(DEAD_LETTERS), shop.audit()

    title = "Orders placed and completed"
    report.add(PART, "notifications at work", "orders/s", [with_all], group=title)
    report.add(PART, "notifications stopped", "orders/s", [without], group=title)
    sent = orders * (MESSAGES_OF_ORDER["EMAIL"] + MESSAGES_OF_ORDER["TELEGRAM"])
    report.add(PART, "messages sent once it is back", "messages/s", [sent / seconds])
    report.aim(PART, "orders/s with notifications stopped by that with it", without / with_all, at_least=0.9)
    report.aim(PART, "notifications while the group was stopped", told_meanwhile, at_most=0)
    report.aim(PART, "messages that did not arrive", len(expected - found.keys()), at_most=0)
    report.aim(PART, "messages that arrived twice", found.total() - len(found), at_most=0)
    report.aim(PART, "notifications that are not SENT", not_sent, at_most=0)
    off = len(audit["findings"] + audit["in_flight"])
    report.aim(PART, "findings of audit --strict", off, at_most=0)
    report.aim(PART, "dead letters", letters, at_most=0)


@contextmanager
def sinks(shop: Shop, taken: Path) -> Iterator[Site]:
    """Run all that `make run` starts, with a mail server and a Bot API that note in a file what they take."""
    smtp, http = (ports.choose(taken=set()) for _ in range(2))
    settings = {
        "EMAIL_URL": f"smtp://{ports.LOOPBACK}:{smtp}",
        "EMAIL_FROM": "orders@shop.example",
        "TELEGRAM_API_URL": f"http://{ports.LOOPBACK}:{http}",
        "TELEGRAM_BOT_TOKEN": TOKEN,
        "TELEGRAM_CHAT_ID": "1",
    }
    with (
        shop.start("sinks", ["-m", "benchmarks.sinks", str(smtp), str(http), str(taken)]),
        whole_stack(shop, taker="consumer-notifications", **settings) as site,
    ):
        yield site


def rate(shop: Shop, site: Site, chance: random.Random, orders: int) -> float:
    """Place orders, and return how many a second were placed and completed."""
    completed = shop.number(COMPLETED)
    began_at = time.perf_counter()
    place(shop, site, new_orders(shop, chance, orders))
    wait_for_completed(shop, site, completed + orders)
    seconds = time.perf_counter() - began_at
    wait_for_sold(shop, site)
    return orders / seconds


def wait_until_told(shop: Shop, site: Site, orders: int) -> None:
    """Block until all is told of so many orders that were paid, and sent."""
    expected = orders * sum(MESSAGES_OF_ORDER.values())
    wait_until(
        lambda: shop.number(OF_ORDERS) == expected and shop.number(WAITING) == 0,
        site.watch,
        progress=lambda: (shop.number(OF_ORDERS), shop.number(WAITING)),
    )
