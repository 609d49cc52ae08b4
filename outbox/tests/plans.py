"""How PostgreSQL would answer what a page asks, over tables that hold enough for an index to be worth it."""

from collections import defaultdict
from collections.abc import Callable

from django.db import connection, transaction
from django.db.models import Model
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from uuid_utils.compat import uuid7

from outbox.models import FailedMessage, InboxEvent, OutboxEvent, ParkedEvent

ROWS = 3_000
# Of a value, so that the rows fill pages.
VALUE_BYTES = 1_500


def fill_tables() -> None:
    """Add rows about ROWS other events, and let PostgreSQL count them."""
    now = timezone.now()
    events = [{"event_id": uuid7(), "event_type": "thing.counted", "topic": "thing-events"} for _ in range(ROWS)]
    records = [
        {**event, "partition": 1, "offset": offset, "key": str(offset).encode(), "value": b"x" * VALUE_BYTES}
        for offset, event in enumerate(events)
    ]
    places = [{name: record[name] for name in (*events[0], "partition", "offset")} for record in records]
    OutboxEvent.objects.bulk_create(
        OutboxEvent(**event, key=b"k", value=b"x" * VALUE_BYTES, created_at=now) for event in events
    )
    InboxEvent.objects.bulk_create(InboxEvent(**place, consumer_group="sample", applied_at=now) for place in places)
    FailedMessage.objects.bulk_create(
        FailedMessage(
            **record, consumer_group="sample", status="FAILED", parks=True, created_at=now, fingerprint=str(number)
        )
        for number, record in enumerate(records)
    )
    ParkedEvent.objects.bulk_create(ParkedEvent(**record, consumer_group="sample", parked_at=now) for record in records)
    with connection.cursor() as cursor:
        for model in (OutboxEvent, InboxEvent, FailedMessage, ParkedEvent):
            cursor.execute(f"ANALYZE {model._meta.db_table}")


def plans(open_page: Callable[[], object], *models: type[Model]) -> dict[type[Model], str]:
    """Return by model the plans of what a page asks about these, by an index wherever one can be used.

    Otherwise it would depend on what other tests have left in the tables' files.
    """
    with CaptureQueriesContext(connection) as asked:
        open_page()
    found: dict[type[Model], str] = defaultdict(str)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for query in asked.captured_queries:
            for model in models:
                if f'FROM "{model._meta.db_table}"' in query["sql"]:
                    cursor.execute(f"EXPLAIN {query['sql']}")
                    found[model] += "\n".join(line for (line,) in cursor.fetchall()) + "\n"
        cursor.execute("SET LOCAL enable_seqscan = on")
    return found
