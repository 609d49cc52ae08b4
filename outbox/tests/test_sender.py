"""The relay's producer on real Kafka: no row overtakes one of its key, whatever becomes of that."""

import logging
import time

import pytest
from confluent_kafka.admin import NewTopic

from outbox.kafka import admin_client, topic_name
from outbox.relay import sender as sender_module
from outbox.relay.sender import REFUSALS, Row, Sender
from outbox.tests.processes import wait_until
from outbox.tests.sample import SMALL, THING
from outbox.worker import OutageLog


def row(number: int, *, key: str = "a", size: int = 10, topic=THING) -> Row:
    return Row(number, None, "thing", None, topic_name(topic), key.encode(), b"x" * size, None, "[]")


def fresh() -> Sender:
    return Sender(OutageLog(logging.getLogger(__name__), "Kafka"))


def reported(sender: Sender) -> None:
    def all_reported() -> bool:
        sender.poll(0.05)
        return not sender.in_flight

    wait_until(all_reported)


def test_what_follows_a_refused_row_of_its_key_is_never_taken(kafka):
    kafka.shrink()
    for attempt in range(40):
        sender = fresh()
        # Two requests in flight at once, as a broker sees it that does not know the producer yet.
        sender.send([row(1, size=20_000, topic=SMALL)])
        time.sleep(0.0003 * (attempt % 5))
        sender.send([row(2, topic=SMALL)])
        while sender.in_flight and not sender.broken:
            sender.poll(0.05)
        sender.give_up()
        [big, small] = sorted(sender.failures, key=lambda batch: batch.places)
        assert [error.code() in REFUSALS for error in big.errors.values()] == [True]
        assert len(small.errors) == 1
        sender.close()

    assert kafka.records(SMALL) == []


def test_rows_of_one_key_follow_each_other_when_its_partition_knows_the_producer(kafka):
    sender = fresh()
    sender.send([row(number) for number in range(500)])
    reported(sender)

    assert [row_id for row_id, _ in sender.sent] == list(range(500))
    assert len(kafka.records(THING)) == 500


def test_many_keys_make_a_topic_warm_at_once(kafka):
    sender = fresh()
    sender.send([row(number, key=f"t{number}") for number in range(100)])
    reported(sender)

    assert sender._warm == {topic_name(THING)}
    assert not sender._cold


def test_what_has_no_report_fails_when_the_producer_is_given_up(kafka, settings):
    settings.OUTBOX = {**settings.OUTBOX, "KAFKA": {"bootstrap.servers": "127.0.0.1:1"}}
    sender = fresh()
    sender.send([row(1), row(2)])

    sender.give_up()

    [batch] = sender.failures
    assert [row_id for row_id, _ in batch.places] == [1, 2]
    assert batch.errors
    assert sender.sent == []


@pytest.mark.parametrize(("age", "is_old"), [(0, False), (sender_module.LIFE_SECONDS + 1, True)])
def test_a_producer_is_old_long_before_a_broker_forgets_it(kafka, age, is_old):
    sender = fresh()
    sender._born_at -= age

    assert sender.is_old == is_old


def test_what_comes_after_a_row_whose_topic_was_not_there_is_not_taken_before_it(kafka):
    admin = admin_client()
    admin.delete_topics([topic_name(SMALL)])[topic_name(SMALL)].result()
    wait_until(lambda: topic_name(SMALL) not in admin.list_topics(timeout=10).topics)
    sender = fresh()
    sender.send([row(1, key="other"), row(2, topic=SMALL)])
    admin.create_topics([NewTopic(topic_name(SMALL), 1, 1)])[topic_name(SMALL)].result()
    wait_until(lambda: topic_name(SMALL) in admin.list_topics(timeout=10).topics)

    sender.send([row(3, topic=SMALL)])
    reported(sender)

    assert kafka.records(SMALL) == []
    failed = sorted(value for batch in sender.take_failures() for _, _, value in batch.errors)
    assert failed == [row(2, topic=SMALL).value, row(3, topic=SMALL).value]
    sender.send([row(2, topic=SMALL), row(3, topic=SMALL)])
    reported(sender)
    assert len(kafka.records(SMALL)) == 2
