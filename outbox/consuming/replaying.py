"""What a replay is to do, partition by partition, and what forbids it. Run with: manage.py replay_events GROUP"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from django.db.models import Max, Min
from django.utils import timezone

from outbox import conf
from outbox.kafka import admin_client, topic_name
from outbox.models import ConsumerGroup, FailedMessage, InboxEvent, ParkedEvent
from outbox.record import Place
from outbox.registry import DEAD_LETTERS, group_of, topics_of

TIMEOUT_SECONDS = 15.0


class Refused(Exception):
    """The replay is not possible. The message says why, to a person."""


@dataclass(frozen=True)
class Step:
    """What becomes of one partition."""

    place: Place
    # Kafka holds the offsets from `low` to `high` - 1.
    low: int
    high: int
    # Where the group would go on reading; None: it has committed nothing yet, and begins at `low`.
    committed: int | None
    target: int

    @property
    def records(self) -> int:
        """How many records that the group has read are to be read again."""
        return max(0, self.read_up_to - self.target)

    @property
    def read_up_to(self) -> int:
        """The offset at which the group would go on."""
        return self.low if self.committed is None else self.committed

    def __str__(self) -> str:
        committed = "nothing committed" if self.committed is None else f"committed {self.committed}"
        again = f"from {self.target}, {self.records} records to be read again" if self.records else "nothing to be done"
        return f"{self.place[0]}/{self.place[1]}: {committed}, {again}"


def from_beginning(group: str) -> list[Step]:
    """Return the steps of reading all that Kafka holds.

    Raises:
        LookupError: no handler names the group.
        Refused: the replay is not possible.
        KafkaException: Kafka did not answer within 15 s.
    """
    return _Partitions(group).steps({})


def from_time(group: str, at: datetime) -> list[Step]:
    """Return the steps of reading from the first record at or after a time. Raises as `from_beginning` does."""
    if at > timezone.now():
        raise Refused(f"{at.isoformat()} is in the future")
    partitions = _Partitions(group)
    # Kafka takes -1 and -2 for something else.
    milliseconds = max(0, int(at.timestamp() * 1000))
    found = partitions.offsets(OffsetSpec.for_timestamp(milliseconds))
    # Where there is none at or after that time, it is the end.
    return partitions.steps({place: offset for place, offset in found.items() if offset >= 0}, beyond_is_end=True)


def from_offset(group: str, topic: str, partition: int, offset: int) -> list[Step]:
    """Return the step of reading one partition from an offset. `topic` may lack the installation's prefix.

    Raises as `from_beginning` does.
    """
    partitions = _Partitions(group)
    names = {place[0] for place in partitions.places}
    name = topic if topic in names else conf.get("PREFIX") + topic
    if name not in names:
        raise Refused(f"group {group!r} does not read topic {topic!r}; it reads {', '.join(sorted(names))}")
    count = sum(place[0] == name for place in partitions.places)
    if not 0 <= partition < count:
        raise Refused(f"topic {name} has no partition {partition}: they are 0 to {count - 1}")
    [step] = [step for step in partitions.steps({(name, partition): offset}) if step.place == (name, partition)]
    if not step.low <= offset <= step.high:
        raise Refused(f"offset {offset} is not in what Kafka holds of {name}/{partition}: {step.low} to {step.high}")
    if offset > step.read_up_to:
        raise Refused(
            f"the group has read {name}/{partition} up to {step.read_up_to} only: "
            f"to go on at {offset} would lose events"
        )
    return [step]


def check_rebuild(group: str, steps: Iterable[Step]) -> None:
    """Raise Refused unless all that a projection was made of can be read again by these steps."""
    if group_of(group).clear is None:
        raise Refused(f"group {group!r} is no projection: it does not say how to clear what it makes")
    if ConsumerGroup.objects.filter(name=group, forgotten_before__isnull=False).exists():
        raise Refused(
            "the inbox has forgotten events that the group applied, as Kafka has: a rebuild would be without them"
        )
    for step in steps:
        if step.target > step.low:
            raise Refused(
                f"a rebuild reads everything, but {step.place[0]}/{step.place[1]} would be read from {step.target} "
                f"and not from {step.low}: leave the time out"
            )
    had = [
        row
        for table in (InboxEvent, FailedMessage, ParkedEvent)
        for row in table._default_manager.filter(consumer_group=group)
        .order_by()
        .values("topic", "partition")
        .annotate(first=Min("offset"), last=Max("offset"))
    ]
    # Kafka is asked after that, since the group goes on meanwhile.
    by_place = {step.place: step for step in from_beginning(group)}
    for row in had:
        held = by_place.get((row["topic"], row["partition"]))
        if held and not held.low <= row["first"] <= row["last"] < held.high:
            raise Refused(
                f"Kafka holds {held.place[0]}/{held.place[1]} from {held.low} to {held.high - 1} only, and the "
                f"group has had records from {row['first']} to {row['last']}: a rebuild would be without some"
            )


class _Partitions:
    """The partitions that a group reads, as Kafka has them."""

    def __init__(self, group: str) -> None:
        if group == DEAD_LETTERS:
            raise Refused(f"{DEAD_LETTERS} is no consumer group: it is the worker that retries")
        names = [topic_name(topic) for topic in topics_of(group)]
        self._group = group
        self._client: AdminClient = admin_client()
        topics = self._client.list_topics(timeout=TIMEOUT_SECONDS).topics
        if missing := [name for name in names if name not in topics]:
            raise Refused(f"Kafka has no topic {', '.join(missing)}: run create_topics")
        self.places: list[Place] = [(name, number) for name in names for number in sorted(topics[name].partitions)]

    def offsets(self, spec: OffsetSpec) -> dict[Place, int]:
        """Return an offset of each partition: of a time, or an end. -1: there is none."""
        wanted = {TopicPartition(*place): spec for place in self.places}
        answers = self._client.list_offsets(wanted, request_timeout=TIMEOUT_SECONDS)
        return {(part.topic, part.partition): answer.result().offset for part, answer in answers.items()}

    def steps(self, targets: Mapping[Place, int], *, beyond_is_end: bool = False) -> list[Step]:
        """Return what becomes of each partition. One without a target is read from its first record, or is not."""
        lows, highs = self.offsets(OffsetSpec.earliest()), self.offsets(OffsetSpec.latest())
        committed = self._committed()
        otherwise = highs if beyond_is_end else lows
        return [
            Step(place, lows[place], highs[place], committed.get(place), targets.get(place, otherwise[place]))
            for place in self.places
        ]

    def _committed(self) -> dict[Place, int]:
        wanted = ConsumerGroupTopicPartitions(
            conf.get("PREFIX") + self._group, [TopicPartition(*place) for place in self.places]
        )
        [answer] = self._client.list_consumer_group_offsets([wanted], request_timeout=TIMEOUT_SECONDS).values()
        parts = answer.result().topic_partitions
        return {(part.topic, part.partition): part.offset for part in parts if part.offset >= 0}
