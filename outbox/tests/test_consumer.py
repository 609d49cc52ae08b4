"""The consumer on real Kafka: what arrives is applied once, whatever happens to the process."""

from django.db import connection, transaction

from outbox import publish
from outbox.kafka import dead_letter_topic
from outbox.models import FailedMessage, InboxEvent, OutboxEvent
from outbox.relay.relay import Relay
from outbox.tests import sample
from outbox.tests.members import as_put, consume
from outbox.tests.processes import run, running, terminate, wait_until
from outbox.tests.records import garbage
from outbox.tests.sample import THING, ThingClosed, ThingCounted, ThingIgnored
from outbox.worker import Stop


def events(count: int, keys: int = 10) -> list[ThingCounted]:
    return [ThingCounted(thing=f"t{n % keys}", number=n % 1000) for n in range(count)]


def in_order_once(rows: list[tuple], count: int, keys: int = 10) -> None:
    for key in range(keys):
        assert [n for subject, n in rows if subject == f"t{key}"] == [n % 1000 for n in range(key, count, keys)]


def test_applies_what_the_relay_sent_and_commits_its_offsets(kafka, effects):
    with transaction.atomic():
        publish(*events(100), ThingClosed(thing="t0"))
    Relay().run(Stop(), once=True)

    consume()

    assert len(effects()) == 101
    assert [n for subject, n in effects() if subject == "t0"] == [*range(0, 100, 10), 0]
    assert kafka.committed("sample", THING) == 101


def test_small_batches_do_the_same(kafka, effects):
    kafka.put(THING, *map(as_put, events(50)))

    consume(batch_size=7)

    in_order_once(effects(), 50)
    assert max(size for _, size in sample.calls) <= 7


def test_every_kind_of_garbage_is_dead_lettered_while_good_events_go_on(kafka, effects):
    example = ThingCounted(thing="a", number=999)
    bad = garbage(example)
    good = events(2 * len(bad))
    mixed = []
    for index, spoiled in enumerate(bad.values()):
        mixed += [as_put(good[2 * index]), spoiled, as_put(good[2 * index + 1])]
    kafka.put(THING, *mixed, as_put(ThingIgnored(thing="a")))

    consume()

    in_order_once(effects(), len(good))
    letters = FailedMessage.objects.all()
    stored = sorted(((_bytes(x.key), _bytes(x.value)) for x in letters), key=repr)
    assert stored == sorted(((key, value) for key, value, _ in bad.values()), key=repr)
    assert {letter.status for letter in letters} == {"FAILED"}
    assert kafka.committed("sample", THING) == 3 * len(bad) + 1
    Relay().run(Stop(), once=True)
    copies = list(kafka.records(dead_letter_topic("sample")))
    assert sorted(((c.key(), c.value()) for c in copies), key=repr) == stored
    assert all(dict(copy.headers())["__dlq.errors.group"].endswith(b"sample") for copy in copies)


def _bytes(field) -> bytes | None:
    return None if field is None else bytes(field)


def test_a_poisonous_event_does_not_stop_those_behind_it(kafka, effects):
    sample.broken["t3"] = ValueError("no good")
    kafka.put(THING, *map(as_put, events(40)))

    consume()

    assert FailedMessage.objects.filter(status="PENDING").count() == 4
    assert {subject for subject, _ in effects()} == {f"t{n}" for n in range(10) if n != 3}
    assert len(effects()) == 36


def test_reading_everything_again_changes_nothing(kafka, effects, settings):
    kafka.put(THING, *map(as_put, events(30)))
    consume()
    before = effects()
    echoes = OutboxEvent.objects.count()
    kafka.put(THING, *((record.key(), record.value(), record.headers()) for record in kafka.records(THING)))

    consume()

    assert effects() == before
    assert OutboxEvent.objects.count() == echoes
    assert InboxEvent.objects.count() == 30


def test_a_consumer_killed_in_the_middle_loses_and_doubles_nothing(kafka, effects):
    kafka.put(THING, *map(as_put, events(6_000)))
    for applied in (500, 2_500):
        with running("run_consumer", "sample", "--batch-size=50") as consumer:
            wait_until(lambda applied=applied: InboxEvent.objects.count() > applied, 60)
            consumer.kill()

    run("run_consumer", "sample", "--until-idle")

    in_order_once(effects(), 6_000)
    assert OutboxEvent.objects.filter(event_type="thing.echoed").count() == 6_000


def test_members_share_the_partitions_and_one_killed_is_replaced(kafka, effects):
    with running("run_consumer", "sample", "--batch-size=20") as first:
        kafka.put(THING, *map(as_put, events(2_000)))
        wait_until(InboxEvent.objects.exists)
        with running("run_consumer", "sample", "--batch-size=20") as second:
            kafka.put(THING, *map(as_put, events(2_000)))
            wait_until(lambda: InboxEvent.objects.count() > 2_500, 60)
            first.kill()
            kafka.put(THING, *map(as_put, events(1_000)))
            wait_until(lambda: InboxEvent.objects.count() == 5_000, 60)
            assert terminate(second) == 0

    assert len(effects()) == 5_000
    assert OutboxEvent.objects.filter(event_type="thing.echoed").count() == 5_000


def test_connections_cut_by_postgresql_burn_nothing(kafka, effects):
    kafka.put(THING, *map(as_put, events(3_000)))
    with running("run_consumer", "sample", "--batch-size=20") as consumer:
        for applied in (200, 1_000, 2_000):
            wait_until(lambda applied=applied: InboxEvent.objects.count() > applied, 60)
            cut_other_connections()
        wait_until(lambda: InboxEvent.objects.count() == 3_000, 60)
        assert terminate(consumer) == 0

    in_order_once(effects(), 3_000)
    assert not FailedMessage.objects.exists()


def cut_other_connections() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_consumer_of_many_poisonous_events_stops_in_time_and_loses_none(kafka, effects):
    kafka.put(THING, *(as_put(ThingCounted(thing=f"t{n % 10}", number=5000 + n)) for n in range(200)))
    with running("run_consumer", "sample") as consumer:
        wait_until(lambda: FailedMessage.objects.count() > 2)
        assert terminate(consumer) == 0
    buried = FailedMessage.objects.count()
    sample.mend()

    consume()

    assert buried < 200
    assert FailedMessage.objects.count() == buried
    assert len(effects()) == 200 - buried


def test_an_idle_consumer_stops_in_time(kafka):
    with running("run_consumer", "sample") as consumer:
        kafka.put(THING, as_put(ThingClosed(thing="a")))
        wait_until(InboxEvent.objects.exists)
        assert terminate(consumer) == 0
