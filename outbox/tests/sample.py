"""Events and groups for the tests of this app."""

from collections import Counter

from django.db import connection

from outbox import Event, Topic, consumer_group, handles, publish

THING = Topic("thing-events", partitions=3)
# Of records larger than SMALL_BYTES once a test has said `kafka.shrink()`.
SMALL, SMALL_BYTES = Topic("small-events", partitions=1), 10_000


class ThingCounted(Event, topic=THING, type="thing.counted", key="thing"):
    thing: str
    number: int
    note: str = ""


class ThingClosed(Event, topic=THING, type="thing.closed", key="thing"):
    thing: str


class ThingIgnored(Event, topic=THING, type="thing.ignored", key="thing"):
    thing: str


class ThingShrunk(Event, topic=SMALL, type="thing.shrunk", key="thing"):
    thing: str
    note: str


class ThingEchoed(Event, topic=THING, type="thing.echoed", key="thing"):
    thing: str
    number: int


# What the handlers were called with: the size of each call by handler.
calls: list[tuple[str, int]] = []
# Subjects on which the handlers raise, and what.
broken: dict[str, Exception] = {}
tries: Counter[str] = Counter()
# What the next calls raise, once each.
losses: list[Exception] = []


def write(subject: str, number: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO sample_effect (subject, number) VALUES (%s, %s)", (subject, number))
    if losses:
        raise losses.pop()
    if subject in broken:
        tries[subject] += 1
        raise broken[subject]


def mend() -> None:
    """Let the handlers take numbers of 1,000 and more, too."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE sample_effect DROP CONSTRAINT sample_effect_number_check")


def forbid(*numbers: int) -> None:
    """Let the handlers take all numbers but these."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE sample_effect DROP CONSTRAINT IF EXISTS sample_effect_number_check")
        cursor.execute(
            "ALTER TABLE sample_effect ADD CONSTRAINT sample_effect_number_check CHECK (number <> ALL (%s)) NOT VALID",
            (list(numbers),),
        )


@handles(ThingCounted, group="sample", bulk=True)
def count(events: list[ThingCounted]) -> None:
    calls.append(("count", len(events)))
    for event in events:
        write(event.thing, event.number)
    publish(*(ThingEchoed(thing=event.thing, number=event.number) for event in events))


@handles(ThingClosed, group="sample")
def close(event: ThingClosed) -> None:
    calls.append(("close", 1))
    write(event.thing, 0)


consumer_group("sample-ordered", ordered=True)


@handles(ThingCounted, group="sample-ordered", bulk=True)
def count_in_order(events: list[ThingCounted]) -> None:
    count(events)


@handles(ThingClosed, group="sample-ordered")
def close_in_order(event: ThingClosed) -> None:
    close(event)
