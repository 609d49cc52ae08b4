"""django-outbox-pattern at work. Run with: python -m benchmarks.baselines.peer EVENTS

Its own publisher with its own settings, but for two that make it quicker: it does not sleep between two looks, and its
connection is a sink that takes every message at once. Prints what it did as JSON.
"""

import json
import os
import sys
import time
from typing import Any

import django

FILL = """
    INSERT INTO published (id, destination, body, added, expires_at, retry, status, headers)
    SELECT gen_random_uuid(), 'bench-order-events',
           jsonb_build_object(
               'orderId', 'order-' || n %% 5000, 'number', n, 'sku', 'SKU-' || n %% 200, 'quantity', 1 + n %% 3,
               'note', repeat('x', 40)
           ),
           now(), now() + interval '1 day', 0, 1, '{}'
    FROM generate_series(1, %s) AS n
"""


class Sink:
    """Stands where a STOMP connection would, and takes whatever is sent."""

    def __init__(self, **parameters: Any) -> None:
        self.sent = 0

    def connect(self, **credentials: Any) -> None:
        """Be connected."""

    def disconnect(self) -> None:
        """Be connected still."""

    def is_connected(self) -> bool:
        return True

    def send(self, **message: Any) -> None:
        self.sent += 1


def main() -> None:
    """Publish once what a backlog of so many events holds."""
    events = int(sys.argv[1])
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.baselines.peer_settings"
    django.setup()

    from django.core.management import call_command
    from django.db import connection
    from django_outbox_pattern.choices import StatusChoice
    from django_outbox_pattern.factories import factory_producer
    from django_outbox_pattern.models import Published

    call_command("migrate", "django_outbox_pattern", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE published")
        cursor.execute(FILL, (events,))
        cursor.execute("ANALYZE published")
    producer = factory_producer()

    started_at, cpu_started_at = time.perf_counter(), time.process_time()
    producer.publish_message_from_database()
    seconds, cpu_seconds = time.perf_counter() - started_at, time.process_time() - cpu_started_at
    published = Published.objects.filter(status=StatusChoice.SUCCEEDED).count()
    if published != events or producer.connection.sent != events:
        raise SystemExit(f"django-outbox-pattern published {published} of {events} events")
    json.dump({"seconds": seconds, "cpu_seconds": cpu_seconds}, sys.stdout)


if __name__ == "__main__":
    main()
