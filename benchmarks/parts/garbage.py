"""Garbage in a topic: every good record is applied, every bad one becomes a dead letter, and nothing stops."""

import os
import time
from collections.abc import Iterator

from confluent_kafka import Producer

from benchmarks import tables
from benchmarks.bench import Bench
from benchmarks.consumers import BULK
from benchmarks.events import OrderCounted
from benchmarks.report import Report
from outbox.publishing import rows_of

PART = "garbage"
# One record in so many is good.
SHARE = 11
STALLED_SECONDS = 60.0

Headers = list[tuple[str, bytes]]

COUNTS = """
    SELECT (SELECT count(*) FROM bench_reservation), (SELECT count(*) FROM failed_messages WHERE consumer_group = %s)
"""


def run(bench: Bench, report: Report, records: int) -> None:
    """Count what becomes of good and bad records."""
    good = records // SHARE
    bad = records - good
    tables.empty(bench.db)
    with bench.installation() as place:
        put(place.topic, good, bad)
        begin = time.perf_counter()
        with place.start("consumer-garbage", ["manage.py", "run_consumer", BULK]) as worker:
            before, changed_at = (0, 0), time.monotonic()
            while True:
                worker.watch()
                found = bench.db.execute(COUNTS, (BULK,)).fetchone()
                now = (found[0], found[1]) if found else (0, 0)
                if now == (good, bad):
                    break
                if now != before:
                    before, changed_at = now, time.monotonic()
                elif time.monotonic() - changed_at > STALLED_SECONDS:
                    bench.say(f"nothing more happens: {now}")
                    break
                time.sleep(0.1)
        seconds = time.perf_counter() - begin
    report.add(PART, f"{bad:,} bad and {good:,} good records, with the start", "seconds", [seconds])
    report.aim(PART, "good records that were not applied", abs(good - now[0]), at_most=0)
    report.aim(PART, "bad records that are no dead letters", abs(bad - now[1]), at_most=0)


def put(topic: str, good: int, bad: int) -> None:
    """Write good and bad records to a topic, mixed."""
    producer = Producer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"], "enable.idempotence": True})
    each = max(1, bad // good)
    garbage = kinds_of_garbage()
    written = 0
    for number in range(good):
        for _ in range(each if number < good - 1 else bad - written):
            key, value, headers = next(garbage)
            produce(producer, topic, key, value, headers)
            written += 1
        key, value, headers = good_record(number)
        produce(producer, topic, key, value, headers)
    producer.flush()


def produce(producer: Producer, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
    """Hand a record over, however full the queue is."""
    while True:
        try:
            producer.produce(topic, value, key, headers=list(headers))
            producer.poll(0)
        except BufferError:
            producer.poll(0.1)
        else:
            return


def good_record(number: int) -> tuple[bytes, bytes, Headers]:
    """Return an event as the relay would send it."""
    event = OrderCounted(order_id=f"order-{number:06}", number=1, sku="SKU-0001", quantity=1, note="x" * 40)
    [row] = rows_of([event])
    assert row.key is not None
    assert row.value is not None
    return row.key, row.value, [("event-id", str(row.event_id).encode()), ("event-type", row.event_type.encode())]


def kinds_of_garbage() -> Iterator[tuple[bytes | None, bytes | None, Headers]]:
    """Return records that are no events, each in another way, for ever."""
    number = 0
    while True:
        key, value, headers = good_record(number)
        yield key, None, headers
        yield key, b"", headers
        yield key, b"no JSON at all", headers
        yield key, os.urandom(300), headers
        yield key, value[:-20], headers
        yield key, b"[" * 100_000 if number % 100 == 0 else b"[" * 1_000, headers
        yield key, b'{"eventType": "bench.order_counted"}', headers
        yield key, value.replace(b'"version":1', b'"version":99'), headers
        yield key, value.replace(b'"number":1', b'"number":"\\u0000"'), headers
        yield None, value, headers
        yield b"\xff\x00\xfe", value, headers
        yield key, value, []
        number += 1
