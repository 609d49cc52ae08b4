"""How far the consumer groups are behind, in records and in seconds. Run with: manage.py consumer_lag"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from outbox import conf
from outbox.kafka import CLIENT, topic_name
from outbox.record import Place
from outbox.registry import topics_of

TIMEOUT_SECONDS = 5.0

# What Kafka says while another broker takes over, or a topic is new; and the pause before it is asked again.
MOVING = {
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}
MOVING_SECONDS = 0.2


@dataclass(frozen=True)
class Owner:
    """The member of a group that reads a partition."""

    member_id: str
    client_id: str
    host: str


@dataclass(frozen=True)
class PartitionLag:
    """How far a group is behind in a partition."""

    topic: str
    partition: int
    # The next offset that it is to read; None where it has committed nothing.
    committed: int | None
    # The offset after the last record that may be read.
    end: int
    # What is between: no less than there is. Kafka counts offsets, of which some hold no record (compacted, markers of
    # transactions); but where none of them does, it is 0.
    records: int
    # How long ago the first of them was written, 0 where there is none; None where Kafka did not show it in time.
    seconds: float | None = 0.0
    # Records that Kafka has deleted before the group read them.
    expired: int = 0
    owner: Owner | None = None


@dataclass(frozen=True)
class GroupLag:
    """How far a group is behind in all partitions of the topics that it handles."""

    group: str
    partitions: list[PartitionLag]
    # As Kafka names it (stable, empty, …), and how many read; only where members were asked for.
    state: str = ""
    members: int = 0

    @property
    def records(self) -> int:
        return sum(part.records for part in self.partitions)

    @property
    def seconds(self) -> float | None:
        """The longest of all; None where one that is behind did not show."""
        all_seconds = [part.seconds for part in self.partitions]
        known = [seconds for seconds in all_seconds if seconds is not None]
        return max(known, default=0.0) if len(known) == len(all_seconds) else None


class LagReader:
    """Clients of Kafka's that ask for lags. Not for several threads at once. Use it as a context manager, or `close`.

    It joins no group and commits nothing.
    """

    def __init__(self, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout = timeout_seconds
        self._admin = AdminClient({**CLIENT, **conf.get("KAFKA")})
        self._consumer: Consumer | None = None

    def __enter__(self) -> "LagReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()

    def read(self, names: Sequence[str], *, with_members: bool = True) -> list[GroupLag]:
        """Return the lags of consumer groups, given by their names in this project, in that order.

        Blocks for the timeout at each of a handful of steps, at most.

        Raises:
            KafkaException: Kafka did not answer, or refused.
            LookupError: no handler names a group.
        """
        end = time.monotonic() + self._timeout
        while True:
            try:
                return self._read(names, with_members=with_members)
            except KafkaException as error:
                if error.args[0].code() not in MOVING or time.monotonic() > end:
                    raise
                time.sleep(MOVING_SECONDS)

    def _read(self, names: Sequence[str], *, with_members: bool) -> list[GroupLag]:
        existing = self._admin.list_topics(timeout=self._timeout).topics
        places = {
            name: [
                (topic_name(topic), partition)
                for topic in topics_of(name)
                if topic_name(topic) in existing
                for partition in sorted(existing[topic_name(topic)].partitions)
            ]
            for name in names
        }
        committed = {name: self._committed(name, places[name]) for name in names}
        all_places = sorted({place for of_group in places.values() for place in of_group})
        begins = self._offsets(all_places, OffsetSpec.earliest())
        ends = self._offsets(all_places, OffsetSpec.latest())
        described = self._describe(names) if with_members and names else {}
        lags = []
        for name in names:
            state, members, owners = described.get(name, ("", 0, {}))
            parts = [
                _lag_of(place, committed[name].get(place), begins[place], ends[place], owners.get(place))
                for place in places[name]
            ]
            lags.append(GroupLag(name, parts, state, members))
        return self._with_seconds(lags)

    def _committed(self, name: str, places: Iterable[Place]) -> dict[Place, int]:
        parts = [TopicPartition(*place) for place in places]
        if not parts:
            return {}
        request = ConsumerGroupTopicPartitions(conf.get("PREFIX") + name, parts)
        futures = self._admin.list_consumer_group_offsets([request], request_timeout=self._timeout)
        found = {}
        for part in futures[request.group_id].result().topic_partitions:
            if part.error is not None:
                raise KafkaException(part.error)
            if part.offset != OFFSET_INVALID:
                found[part.topic, part.partition] = part.offset
        return found

    def _offsets(self, places: Iterable[Place], which: OffsetSpec) -> dict[Place, int]:
        wanted = {TopicPartition(*place): which for place in places}
        if not wanted:
            return {}
        # What a group may read: records of open transactions do not count.
        futures = self._admin.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=self._timeout
        )
        return {(part.topic, part.partition): future.result().offset for part, future in futures.items()}

    def _describe(self, names: Iterable[str]) -> dict[str, tuple[str, int, dict[Place, Owner]]]:
        """Return state, number of members, and who reads what, by group."""
        by_full_name = {conf.get("PREFIX") + name: name for name in names}
        described: dict[str, tuple[str, int, dict[Place, Owner]]] = {}
        futures = self._admin.describe_consumer_groups(list(by_full_name), request_timeout=self._timeout)
        for full_name, future in futures.items():
            try:
                group = future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                    raise
                described[by_full_name[full_name]] = ("dead", 0, {})
                continue
            owners = {
                (part.topic, part.partition): Owner(member.member_id, member.client_id, member.host)
                for member in group.members
                if member.assignment is not None
                for part in member.assignment.topic_partitions
            }
            described[by_full_name[full_name]] = (group.state.name.lower(), len(group.members), owners)
        return described

    def _with_seconds(self, lags: Sequence[GroupLag]) -> list[GroupLag]:
        """Return the lags with the ages of the first records that were not committed."""
        behind = {
            (part.topic, part.partition, part.end - part.records)
            for lag in lags
            for part in lag.partitions
            if part.records
        }
        first = self._first_records(sorted(behind))
        now = time.time()

        def with_seconds(part: PartitionLag) -> PartitionLag:
            if not part.records:
                return part
            found = first.get((part.topic, part.partition, part.end - part.records))
            if found is None:
                return replace(part, seconds=None)
            offset, written_at = found
            if offset >= part.end:
                return replace(part, records=0)
            return replace(part, records=part.end - offset, seconds=max(0.0, now - written_at))

        return [replace(lag, partitions=[with_seconds(part) for part in lag.partitions]) for lag in lags]

    def _first_records(self, places: Sequence[tuple[str, int, int]]) -> dict[tuple[str, int, int], tuple[int, float]]:
        """Return offset and time (seconds since 1970) of the first record at or after each (topic, partition, offset).

        Where no record is left, the offset is where the partition ends. What does not come in time is missing.
        """
        found: dict[tuple[str, int, int], tuple[int, float]] = {}
        waiting = list(places)
        deadline = time.monotonic() + self._timeout
        while waiting and time.monotonic() < deadline:
            # A partition can be read at one place at a time; several groups may be at several.
            wanted = {(topic, partition): (topic, partition, offset) for topic, partition, offset in waiting}
            self._read_one_each(wanted, found, deadline)
            waiting = [place for place in waiting if place not in wanted.values()]
        return found

    def _read_one_each(
        self,
        wanted: dict[Place, tuple[str, int, int]],
        found: dict[tuple[str, int, int], tuple[int, float]],
        deadline: float,
    ) -> None:
        consumer = self._consumer = self._consumer or Consumer(reader_config())
        consumer.assign([TopicPartition(*place) for place in wanted.values()])
        missing = set(wanted)
        while missing and (left := deadline - time.monotonic()) > 0:
            for message in consumer.consume(len(missing), min(left, 0.05)):
                _note(message, wanted, missing, found)
        consumer.unassign()


def _note(
    message: Any,
    wanted: dict[Place, tuple[str, int, int]],
    missing: set[Place],
    found: dict[tuple[str, int, int], tuple[int, float]],
) -> None:
    place = (message.topic(), message.partition())
    error = message.error()
    if place not in missing or (error is not None and error.code() != KafkaError._PARTITION_EOF):
        return
    missing.discard(place)
    found[wanted[place]] = (message.offset(), message.timestamp()[1] / 1000 if error is None else 0.0)


def _lag_of(place: Place, committed: int | None, begin: int, end: int, owner: Owner | None) -> PartitionLag:
    # A group that has committed nothing begins with the first record, and so does one whose place is gone.
    start = begin if committed is None else max(committed, begin)
    return PartitionLag(
        *place,
        committed=committed,
        end=end,
        records=max(0, end - start),
        expired=0 if committed is None else max(0, begin - committed),
        owner=owner,
    )


def reader_config() -> dict[str, Any]:
    """Return the configuration of a consumer that looks at single records, and joins no group."""
    return {
        **CLIENT,
        **conf.get("KAFKA"),
        # librdkafka asks for a name, though nothing joins it.
        "group.id": conf.get("PREFIX") + "lag",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        # One record of each partition is enough; a broker sends at least one batch.
        "fetch.message.max.bytes": 1_000,
        "queued.min.messages": 1,
        # Else, with so few, librdkafka pauses for a second between one partition and the next.
        "fetch.queue.backoff.ms": 10,
        "fetch.wait.max.ms": 100,
    }
