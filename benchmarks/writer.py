"""A process that writes to the outbox as told. Run with: python -m benchmarks.writer

Takes commands on standard input, one a line as JSON: {"way": "publish" or "insert", "events": in a transaction,
"notify": whether the relay is woken, "seconds": how long}. Answers each with {"transactions": …, "seconds": …}.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import django
import psycopg

# What publish() writes; the order of the columns is that of outbox.publishing.OutboxRow.
INSERT = """
    INSERT INTO outbox_outboxevent
        (event_id, event_type, event_version, topic, key, value, traceparent, headers, created_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, statement_timestamp())
"""


def main() -> None:
    """Obey until the input ends."""
    django.setup()
    with psycopg.connect(os.environ["DATABASE_URL"]) as db:
        for line in sys.stdin:
            command = json.loads(line)
            way = {"publish": publisher, "insert": inserter}[command["way"]]
            answer = repeat(way(db, command["events"], command["notify"]), command["seconds"])
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


def repeat(transact: Callable[[], None], seconds: float) -> dict[str, float]:
    """Do it again and again for so long; the first time is for making ready."""
    transact()
    begin = now = time.perf_counter()
    done = 0
    while now - begin < seconds:
        transact()
        done += 1
        now = time.perf_counter()
    return {"transactions": done, "seconds": now - begin}


def publisher(db: psycopg.Connection[Any], events: int, notify: bool) -> Callable[[], None]:
    """Return a transaction that publishes events, as a service would."""
    from django.conf import settings
    from django.db import transaction

    from outbox import publish

    settings.OUTBOX["NOTIFY"] = notify

    def transact() -> None:
        with transaction.atomic():
            publish(*made(events))

    return transact


def inserter(db: psycopg.Connection[Any], events: int, notify: bool) -> Callable[[], None]:
    """Return a transaction that writes the same rows, ready made, by psycopg alone."""
    from outbox.publishing import rows_of

    rows = rows_of(made(events))

    def transact() -> None:
        with db.transaction(), db.cursor() as cursor:
            if len(rows) == 1:
                cursor.execute(INSERT, rows[0])
            else:
                cursor.executemany(INSERT, rows)
            if notify:
                cursor.execute("NOTIFY outbox")

    return transact


def made(events: int) -> list[Any]:
    """Return so many new events of one order."""
    from benchmarks.events import OrderCounted

    return [
        OrderCounted(order_id="order-000001", number=number, sku="SKU-0001", quantity=1, note="x" * 40)
        for number in range(events)
    ]


if __name__ == "__main__":
    main()
