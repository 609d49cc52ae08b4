"""How far a group is behind, on a real Kafka."""

import json
import time
from io import StringIO

import pytest
from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import KafkaException, Producer, TopicPartition
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from outbox import conf, publish
from outbox.events import encode
from outbox.kafka import admin_client, topic_name
from outbox.models import ConsumerGroup, FailedMessage, OutboxEvent, ParkedEvent
from outbox.tests.processes import run, running, terminate, wait_until
from outbox.tests.records import headers_of
from outbox.tests.sample import THING, ThingClosed, ThingCounted
from outbox.watching.lag import LagReader


def put(kafka, *events):
    kafka.put(THING, *((event.key.encode(), encode(event), headers_of(event)) for event in events))


def read(group="sample"):
    with LagReader() as reader:
        return reader.read([group])[0]


def commit(offset: int, partition: int = 0, group="sample"):
    consumer = KafkaConsumer({**conf.get("KAFKA"), "group.id": conf.get("PREFIX") + group})
    consumer.commit(offsets=[TopicPartition(topic_name(THING), partition, offset)], asynchronous=False)
    consumer.close()


def in_transaction(partition: int, *values: bytes, abort=False, name="t"):
    """Write records in a transaction of Kafka's, which leaves a marker behind them."""
    producer = Producer({**conf.get("KAFKA"), "transactional.id": conf.get("PREFIX") + name})
    producer.init_transactions(20)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic_name(THING), value, partition=partition)
    if abort:
        producer.flush(20)
        producer.abort_transaction(20)
    else:
        producer.commit_transaction(20)


def say(*arguments) -> str:
    out = StringIO()
    call_command("consumer_lag", *arguments, stdout=out)
    return out.getvalue()


def test_a_group_that_read_nothing_is_behind_by_all_there_is_since_the_first(kafka):
    put(kafka, *(ThingCounted(thing=f"t{number}", number=number) for number in range(20)))
    time.sleep(0.2)
    put(kafka, *(ThingCounted(thing=f"t{number}", number=number) for number in range(20)))

    lag = read()

    assert lag.records == 40
    assert lag.seconds >= 0.2
    assert [part.partition for part in lag.partitions] == list(range(THING.partitions))
    assert {part.committed for part in lag.partitions} == {None}
    assert lag.members == 0


def test_a_group_that_applied_all_is_behind_by_nothing(kafka):
    put(kafka, *(ThingCounted(thing=f"t{number}", number=number) for number in range(20)))
    run("run_consumer", "sample", "--until-idle")

    lag = read()

    assert (lag.records, lag.seconds) == (0, 0.0)
    assert sum(part.committed or 0 for part in lag.partitions) == 20


def test_seconds_tell_the_age_of_the_first_record_that_was_not_committed(kafka):
    hour_ago = int((time.time() - 3600) * 1000)
    producer = Producer(conf.get("KAFKA"))
    for timestamp in (hour_ago - 3_600_000, hour_ago, hour_ago + 1_800_000):
        producer.produce(topic_name(THING), b"x", partition=1, timestamp=timestamp)
    assert producer.flush(20) == 0
    commit(1, partition=1)

    part = read().partitions[1]

    assert (part.committed, part.end, part.records) == (1, 3, 2)
    assert 3600 <= part.seconds < 3660


def test_markers_and_aborted_records_are_no_lag(kafka):
    in_transaction(0, b"x", b"y")
    in_transaction(1, b"x", b"y", abort=True)
    commit(2, partition=0)

    first, second, _ = read().partitions

    assert (first.end, first.records, first.seconds) == (3, 0, 0.0)
    assert (second.end, second.records, second.seconds) == (3, 0, 0.0)


def test_records_of_an_open_transaction_are_no_lag_and_what_is_behind_aborted_ones_is(kafka):
    in_transaction(0, b"x", abort=True)
    in_transaction(0, b"y")
    producer = Producer({**conf.get("KAFKA"), "transactional.id": conf.get("PREFIX") + "open"})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(topic_name(THING), b"z", partition=0)
    producer.flush(20)

    part = read().partitions[0]

    # The marker of the second transaction counts: there is a record before it.
    assert (part.end, part.records) == (4, 2)
    producer.abort_transaction(20)


def test_tells_of_records_that_kafka_deleted_unread(kafka):
    put(kafka, *(ThingCounted(thing="a", number=number) for number in range(10)))
    partition = next(part.partition for part in read().partitions if part.end)
    commit(3, partition)
    place = TopicPartition(topic_name(THING), partition, 8)
    client = admin_client()
    client.delete_records([place])[place].result()

    part = read().partitions[partition]

    assert (part.expired, part.records) == (5, 2)


def test_groups_at_different_places_of_a_partition_are_told_apart(kafka):
    for offset in range(4):
        in_transaction(0, b"x", name=f"t{offset}")
    commit(0), commit(2, group="orders")

    with LagReader() as reader:
        [mine] = reader.read(["sample"])
        found = reader._first_records([(topic_name(THING), 0, offset) for offset in (0, 2, 3, 8)])

    assert mine.partitions[0].records == 8
    # At 3 there is a marker, at 8 the end.
    assert [offset for _, (offset, _) in sorted(found.items())] == [0, 2, 4, 8]


def test_names_who_reads_a_partition(kafka):
    with running("run_consumer", "sample") as consumer:
        wait_until(lambda: all(part.owner for part in read().partitions))
        lag = read()
        assert terminate(consumer) == 0

    assert (lag.state, lag.members) == ("stable", 1)
    assert len({part.owner.member_id for part in lag.partitions}) == 1
    assert lag.partitions[0].owner.host


def test_the_command_prints_each_partition_and_what_is_wrong(kafka, settings):
    settings.OUTBOX = {**settings.OUTBOX, "ALARM_SECONDS": 60}
    put(kafka, *(ThingCounted(thing="a", number=number) for number in range(3)))
    ConsumerGroup.objects.update_or_create(name="sample", defaults={"halted_at": "2026-01-02T03:04:05Z"})

    text = say()

    [headline] = [line for line in text.splitlines() if line.startswith("sample: ")]
    assert "3 records and" in headline
    assert "HALTED since 2026-01-02T03:04:05" in headline
    ours = text.partition("sample: ")[2].partition("\n\n")[0]
    rows = [line.split() for line in ours.splitlines() if topic_name(THING) in line]
    assert sorted(row[3:5] for row in rows) == [["0", "0"], ["0", "0"], ["3", "3"]]
    assert "relay: 0 events unpublished" in text
    assert "WARNING" not in text


def test_the_command_warns_when_events_wait_for_too_long_to_be_sent(kafka):
    with transaction.atomic():
        publish(ThingClosed(thing="a"), ThingClosed(thing="b"))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE outbox_outboxevent SET created_at = now() - interval '61 s'")

    text = say()

    assert "relay: 2 events unpublished, the oldest for 61." in text
    assert "WARNING: that is longer than 60 s" in text
    OutboxEvent.objects.all().delete()
    assert "WARNING" not in say()


def test_the_command_speaks_json_with_the_numbers_of_every_group(kafka):
    put(kafka, *(ThingCounted(thing="a", number=number) for number in range(3)))
    place = {"consumer_group": "sample", "topic": "t", "partition": 0, "event_type": "thing.counted"}
    FailedMessage.objects.create(
        **place, offset=0, error_class="E", error="", status="FAILED", created_at="2026-01-01T00:00:00Z"
    )
    for offset in (1, 2):
        ParkedEvent.objects.create(
            **place, offset=offset, key=b"a", value=b"", event_id="0" * 32, parked_at="2026-01-01T00:00:00Z"
        )

    document = json.loads(say("--json"))

    assert document["relay"] == {
        "unpublished": 0,
        "oldest_unpublished_age_seconds": 0.0,
        "alarm": False,
        "open_letters": 0,
    }
    [group] = [group for group in document["groups"] if group["group"] == "sample"]
    assert (group["records"], group["open_letters"], group["parked_keys"], group["parked_events"]) == (3, 1, 1, 2)
    assert group["halted_at"] is None
    assert group["seconds"] > 0
    [part] = [part for part in group["partitions"] if part["records"]]
    assert part.keys() == {
        *("topic", "partition", "committed", "end", "records", "seconds", "expired", "owner"),
    }


def test_a_group_whose_topics_are_missing_is_behind_by_nothing(prefix):
    assert read().partitions == []


def test_a_project_that_only_publishes_has_no_lag(prefix):
    with LagReader() as reader:
        assert reader.read([]) == []


def test_says_in_one_line_that_kafka_does_not_answer(settings, db, monkeypatch):
    monkeypatch.setattr("outbox.watching.lag.TIMEOUT_SECONDS", 0.5)
    settings.OUTBOX = {**settings.OUTBOX, "KAFKA": {"bootstrap.servers": "127.0.0.1:1"}}

    with pytest.raises(CommandError, match=r"^Kafka: [^\n]+$"):
        say()
    with pytest.raises(KafkaException):
        LagReader(timeout_seconds=0.5).read(["sample"])
