"""Replays on real Kafka: what is read again, what is built again, and what is refused."""

from datetime import timedelta
from io import StringIO
from threading import Event, Thread

import pytest
from confluent_kafka import TopicPartition
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone

from outbox.consuming import rewinding
from outbox.consuming.member import Member
from outbox.kafka import admin_client, topic_name
from outbox.models import ConsumerGroup, FailedMessage, InboxEvent, Rewind
from outbox.tests.members import as_put, consume, events, in_order_once, member
from outbox.tests.processes import running, wait_until
from outbox.tests.sample import THING

LONG_AGO = "2020-01-01T00:00:00Z"


def replay(*arguments: str) -> str:
    """Return what the command says."""
    out = StringIO()
    call_command("replay_events", *arguments, stdout=out)
    return out.getvalue()


def all_followed() -> bool:
    return not Rewind.objects.exists()


def forget_some() -> int:
    """Let the inbox not know the first event of each partition, as if it had not been applied. Return how many."""
    return InboxEvent.objects.filter(consumer_group="shown", offset=0).delete()[0]


def test_running_members_read_again_and_apply_only_what_the_inbox_does_not_know(kafka, projection):
    kafka.put(THING, *map(as_put, events(range(30))))
    with member("shown"), member("shown"):
        wait_until(lambda: len(projection()) == 30)
        wait_until(lambda: kafka.committed("shown", THING) == 30)
        forgotten = forget_some()

        told = replay("shown", "--from", LONG_AGO)

        wait_until(lambda: all_followed() and len(projection()) == 30 + forgotten)
    assert forgotten > 0
    assert "What the inbox knows is not applied again" in told
    assert len(set(projection())) == 30
    assert kafka.committed("shown", THING) == 30


def test_without_members_the_next_one_reads_again(kafka, projection):
    kafka.put(THING, *map(as_put, events(range(30))))
    consume("shown")
    forgotten = forget_some()

    replay("shown", "--from", LONG_AGO)

    assert Rewind.objects.count() > 0
    consume("shown")
    assert all_followed()
    assert len(projection()) == 30 + forgotten


def test_one_partition_is_read_again_from_an_offset(kafka, projection):
    kafka.put(THING, *map(as_put, events(range(30), keys=1)))
    consume("shown")
    number = kafka.records(THING)[0].partition()
    InboxEvent.objects.all().delete()

    told = replay("shown", "--topic=thing-events", f"--partition={number}", "--offset=12")

    consume("shown")
    assert f"{topic_name(THING)}/{number}: committed 30, from 12, 18 records to be read again" in told
    assert [n for _, n in projection()] == [*range(30), *range(12, 30)]


def test_from_a_time_all_partitions_go_to_their_first_record_since_then(kafka, projection):
    kafka.put(THING, *map(as_put, events(range(20))))
    at = timezone.now()
    kafka.put(THING, *map(as_put, events(range(20, 50))))
    consume("shown")
    InboxEvent.objects.all().delete()

    replay("shown", "--from", at.isoformat())

    consume("shown")
    assert sorted(n for _, n in projection()) == sorted([*range(50), *range(20, 50)])


def test_a_projection_is_built_again_from_what_kafka_holds(kafka, projection, effects):
    kafka.put(THING, *map(as_put, events(range(40))))
    consume("shown")
    consume("sample")
    FailedMessage.objects.create(
        consumer_group="shown",
        topic=topic_name(THING),
        partition=0,
        offset=0,
        status="DISCARDED",
        created_at=timezone.now(),
    )

    replay("shown", "--rebuild")

    assert projection() == []
    assert not InboxEvent.objects.filter(consumer_group="shown").exists()
    consume("shown")
    in_order_once(projection(), range(40))
    in_order_once(effects(), range(40))
    assert InboxEvent.objects.filter(consumer_group="sample").count() == 40


def test_what_was_discarded_stays_so_when_it_is_built_again(kafka, projection):
    kafka.put(THING, *map(as_put, events(range(10))))
    consume("shown")
    discarded, waiting = InboxEvent.objects.filter(consumer_group="shown")[:2]
    letters = [
        FailedMessage(
            consumer_group="shown",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            event_id=record.event_id,
            status=status,
            created_at=timezone.now(),
        )
        for record, status in [(discarded, "DISCARDED"), (waiting, "PENDING")]
    ]
    FailedMessage.objects.bulk_create(letters)

    replay("shown", "--rebuild")
    consume("shown")

    assert len(projection()) == 9
    assert [letter.status for letter in FailedMessage.objects.all()] == ["DISCARDED"]


def test_rebuilt_again_and_again_under_load_it_holds_each_event_once_in_order(kafka, projection):
    enough = Event()
    put = []

    def load() -> None:
        while not enough.is_set():
            numbers = range(len(put), len(put) + 50)
            kafka.put(THING, *map(as_put, events(numbers)))
            put.extend(numbers)
        connections.close_all()

    loading = Thread(target=load)
    loading.start()
    try:
        with running("run_consumer", "shown", "--batch-size=20"), member("shown", batch_size=30), member("shown"):
            for _ in range(4):
                wait_until(lambda: len(projection()) > 200)
                replay("shown", "--rebuild")
            enough.set()
            loading.join()
            wait_until(lambda: len(projection()) >= len(put) and all_followed(), 60)
    finally:
        enough.set()
    consume("shown")

    in_order_once(projection(), range(len(put)))
    assert ConsumerGroup.objects.get(name="shown").generation == 4


def test_a_rewind_that_is_followed_twice_does_no_harm(kafka, projection):
    kafka.put(THING, *map(as_put, events(range(20))))
    consume("shown")
    replay("shown", "--rebuild")
    rewinds = list(Rewind.objects.all())
    consume("shown")

    # As if the member had died between its commit and the deletion of the rows.
    Rewind.objects.bulk_create(rewinds)
    consume("shown")

    in_order_once(projection(), range(20))
    assert all_followed()
    assert kafka.committed("shown", THING) == 20


def test_a_rewind_asked_for_anew_is_not_forgotten_with_the_one_before(kafka):
    place = (topic_name(THING), 0)
    rewinding.ask("shown", {place: 5})
    [before] = rewinding.pending("shown")[1]
    rewinding.ask("shown", {place: 7})

    rewinding.forget([before])

    generation, [still] = rewinding.pending("shown")
    assert (generation, still.offset) == (2, 5)


def test_a_dry_run_changes_nothing(kafka, projection):
    kafka.put(THING, *map(as_put, events(range(20))))
    consume("shown")

    told = replay("shown", "--rebuild", "--dry-run")

    assert sum(int(line.split(", ")[2].split()[0]) for line in told.splitlines() if "records" in line) == 20
    assert len(projection()) == 20
    assert all_followed()
    assert ConsumerGroup.objects.get(name="shown").generation == 0


def test_what_the_group_has_not_read_yet_is_not_skipped(kafka, projection):
    kafka.put(THING, *map(as_put, events(range(20), keys=1)))

    told = replay("shown", "--from", (timezone.now() - timedelta(milliseconds=1)).isoformat())

    assert "to be read again" not in told
    consume("shown")
    assert len(projection()) == 20


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nobody", "--rebuild"], "no consumer group 'nobody'"),
        (["dead-letters", "--rebuild"], "dead-letters is no consumer group"),
        (["shown"], "from where"),
        (["shown", "--from", "yesterday"], "not a time of ISO 8601"),
        (["shown", "--from", "2020-01-01T00:00:00"], "without a zone"),
        (["shown", "--from", "2100-01-01T00:00:00Z"], "in the future"),
        (["shown", "--from", LONG_AGO, "--offset=1"], "exclude each other"),
        (["shown", "--topic=thing-events", "--offset=1"], "belong together"),
        (["shown", "--topic=thing-events", "--partition=0", "--offset=0", "--rebuild"], "cannot be of one partition"),
        (["shown", "--topic=other-events", "--partition=0", "--offset=0"], "does not read topic 'other-events'"),
        (["shown", "--topic=thing-events", "--partition=3", "--offset=0"], "they are 0 to 2"),
        (["shown", "--topic=thing-events", "--partition=-1", "--offset=0"], "they are 0 to 2"),
        (["shown", "--topic=thing-events", "--partition=0", "--offset=99"], "what Kafka holds"),
        (["shown", "--topic=thing-events", "--partition=0", "--offset=-1"], "what Kafka holds"),
        (["sample", "--rebuild"], "is no projection"),
    ],
)
def test_says_what_is_wrong_with_its_arguments(kafka, arguments, reason):
    kafka.put(THING, *map(as_put, events(range(30))))
    with pytest.raises(CommandError, match=reason):
        replay(*arguments)


def test_an_offset_ahead_of_the_group_is_refused(kafka):
    kafka.put(THING, *map(as_put, events(range(20), keys=1)))
    number = kafka.records(THING)[0].partition()

    with pytest.raises(CommandError, match="would lose events"):
        replay("shown", "--topic", topic_name(THING), f"--partition={number}", "--offset=20")


def test_a_rebuild_is_refused_where_kafka_no_longer_holds_all(kafka, projection):
    kafka.put(THING, *map(as_put, events(range(20), keys=1)))
    consume("shown")
    number = kafka.records(THING)[0].partition()
    client = admin_client()
    [deleted] = client.delete_records([TopicPartition(topic_name(THING), number, 3)]).values()
    deleted.result(10)

    with pytest.raises(CommandError, match="from 3 to 19 only, and the group has had records from 0 to 19"):
        replay("shown", "--rebuild")

    assert len(projection()) == 20


def test_a_rebuild_is_refused_where_the_inbox_has_forgotten(kafka):
    kafka.put(THING, *map(as_put, events(range(30))))
    ConsumerGroup.objects.create(name="shown", forgotten_before=timezone.now())

    with pytest.raises(CommandError, match="the inbox has forgotten"):
        replay("shown", "--rebuild")


def test_a_rebuild_from_a_time_that_leaves_something_out_is_refused(kafka, projection):
    kafka.put(THING, *map(as_put, events(range(20), keys=1)))
    at = timezone.now()
    kafka.put(THING, *map(as_put, events(range(20, 30), keys=1)))
    consume("shown")

    with pytest.raises(CommandError, match="a rebuild reads everything"):
        replay("shown", "--from", at.isoformat(), "--rebuild")
    replay("shown", "--from", LONG_AGO, "--rebuild")

    assert projection() == []


def test_a_partition_that_waits_to_be_sought_is_not_taken_for_one_whose_commit_is_under_way(kafka):
    first, second = (topic_name(THING), 0), (topic_name(THING), 1)
    consumer = Member("shown", batch_size=1, until_idle=False)
    consumer._barred.add(first)

    consumer._commit({first: 1, second: 1}, wait=False)

    assert consumer._committing == {second: 1}
    consumer.leave()
