"""The tables: what is to be sent, what was applied, what could not be, what waits behind that, and the groups."""

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models.functions import Coalesce, Mod

# How many parts the keys are divided into, so that several relays can share them: no more relays than that can work.
BUCKETS = 32


class OutboxEvent(models.Model):
    """A record that waits to be sent to Kafka. Written by outbox.publishing, deleted when Kafka has acknowledged it."""

    # The order of publication: drawn from a sequence while the aggregate is locked.
    id = models.BigAutoField(primary_key=True)
    event_id = models.UUIDField(null=True)
    event_type = models.TextField()
    event_version = models.IntegerField(null=True)
    topic = models.TextField()
    # Kafka's key and value as they are sent. bytea, since copies of foreign records may hold anything.
    key = models.BinaryField(null=True)
    value = models.BinaryField(null=True)
    traceparent = models.TextField(null=True)
    # Null: the headers are those of an event, made of the columns. Else as in FailedMessage.
    headers = models.JSONField(null=True)
    created_at = models.DateTimeField()
    # Which of the relays that share the keys sends it: all rows of a key are in one bucket.
    bucket = models.GeneratedField(
        expression=Mod(
            Coalesce(
                models.Func(
                    models.Func("key", function="sha256"),
                    0,
                    function="get_byte",
                    output_field=models.IntegerField(),
                ),
                0,
            ),
            BUCKETS,
        ),
        output_field=models.SmallIntegerField(),
        db_persist=True,
    )

    class Meta:
        ordering = ["id"]
        # A person looks for an event in a backlog. Ids of events rise with time, as the rows do, so the least and the
        # greatest of each range of pages are enough, and cost the writers next to nothing.
        indexes = [BrinIndex(fields=["event_id"], name="outbox_event_id", autosummarize=True)]

    def __str__(self) -> str:
        return f"{self.event_type} {self.event_id or self.pk}"


class InboxEvent(models.Model):
    """An event that a consumer group has applied, in the same transaction. Its row is what makes it once.

    The table is partitioned by the time in the event's UUIDv7, a week each; outbox.retention adds and drops the parts.
    """

    pk = models.CompositePrimaryKey("event_id", "consumer_group")
    event_id = models.UUIDField()
    consumer_group = models.TextField()
    event_type = models.TextField()
    # Where it was read first.
    topic = models.TextField()
    partition = models.IntegerField()
    offset = models.BigIntegerField()
    applied_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.event_type} {self.event_id} in {self.consumer_group}"


class FailedMessages(models.QuerySet["FailedMessage"]):
    def open(self) -> "FailedMessages":
        """Return those that wait: for their next retry, or for a person."""
        return self.filter(status__in=FailedMessage.OPEN)


class FailedMessage(models.Model):
    """A dead letter: a record that a group could not apply, as it came from Kafka.

    Of an outbox row that Kafka refused for good, the group is "relay", the partition -1 and the offset the row's id.
    """

    class Status(models.TextChoices):
        PENDING = "PENDING"  # waits for its next automatic retry
        PROCESSED = "PROCESSED"  # applied by a retry
        FAILED = "FAILED"  # waits for a person
        DISCARDED = "DISCARDED"  # given up by a person

    OPEN = (Status.PENDING, Status.FAILED)

    consumer_group = models.TextField()
    topic = models.TextField()
    partition = models.IntegerField()
    offset = models.BigIntegerField()
    key = models.BinaryField(null=True)
    value = models.BinaryField(null=True)
    # [[name, value], …]; a value is text, null, or, where it is no UTF-8 text, {"base64": text}.
    headers = models.JSONField(default=list)
    # Null where no envelope could be read.
    event_id = models.UUIDField(null=True)
    event_type = models.TextField(blank=True)
    error_class = models.TextField()
    error = models.TextField()
    # What is the same about letters that failed for the same reason: see outbox/letters/fingerprint.py.
    fingerprint = models.TextField(blank=True, db_default="")
    # Later events of the key wait behind this letter while it is open.
    parks = models.BooleanField(db_default=False)
    # Automatic retries so far.
    attempts = models.PositiveIntegerField(default=0)
    status = models.CharField(max_length=10, choices=Status)
    next_retry_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    processed_at = models.DateTimeField(null=True, blank=True)
    # Since then those who wait for its event know that they wait in vain: see `given_up` of outbox.handles.
    given_up_at = models.DateTimeField(null=True, blank=True)
    # Why a person discarded it.
    reason = models.TextField(blank=True, db_default="")

    objects = FailedMessages.as_manager()

    class Meta:
        db_table = "failed_messages"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["consumer_group", "topic", "partition", "offset"], name="failed_message_once"
            )
        ]
        indexes = [
            models.Index(fields=["next_retry_at"], condition=models.Q(status="PENDING"), name="failed_message_due"),
            # Of the key only its hash, since an index entry holds 2,704 bytes at most and a key may be longer.
            models.Index(
                "consumer_group",
                models.Func("key", function="sha256"),
                condition=models.Q(status__in=["PENDING", "FAILED"], parks=True),
                name="failed_message_parks",
            ),
            # What is open is counted again and again.
            models.Index(
                fields=["consumer_group", "status"],
                condition=models.Q(status__in=["PENDING", "FAILED"]),
                name="failed_message_open",
            ),
            models.Index(fields=["event_id"], name="failed_message_event"),
            models.Index(models.Func("key", function="sha256"), name="failed_message_key"),
            models.Index(fields=["fingerprint", "status"], name="failed_message_alike"),
        ]
        permissions = [
            ("retry_failedmessage", "Can retry and edit failed messages"),
            ("discard_failedmessage", "Can discard failed messages"),
        ]

    def __str__(self) -> str:
        return f"{self.event_type or 'unreadable'} at {self.topic}/{self.partition}/{self.offset}"

    @property
    def is_open(self) -> bool:
        return self.status in self.OPEN


class ParkedEvent(models.Model):
    """An event of an ordered group that waits behind a dead letter of its key. Applied, in order, when that is solved.

    Rows of a (group, key) are there only while an open letter of that group and key `parks`.
    """

    consumer_group = models.TextField()
    topic = models.TextField()
    partition = models.IntegerField()
    offset = models.BigIntegerField()
    key = models.BinaryField()
    value = models.BinaryField()
    # As in FailedMessage.
    headers = models.JSONField(default=list)
    event_id = models.UUIDField()
    event_type = models.TextField()
    parked_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["consumer_group", "topic", "partition", "offset"], name="parked_event_once")
        ]
        indexes = [
            models.Index(
                "consumer_group", models.Func("key", function="sha256"), models.F("id"), name="parked_event_behind"
            ),
            models.Index(fields=["event_id"], name="parked_event_event"),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.event_id} in {self.consumer_group}"


class ConsumerGroup(models.Model):
    """What holds for all members of a consumer group. A member makes the row when it starts.

    Every transaction that applies events holds it FOR KEY SHARE; who locks it FOR UPDATE has the group standing still.
    """

    name = models.TextField(primary_key=True)
    # Dead letters of handlers that raised on a first delivery, since the last event that was applied.
    failures_in_a_row = models.PositiveIntegerField(db_default=0)
    # Since then nothing is applied, until a person resumes the group.
    halted_at = models.DateTimeField(null=True, blank=True)
    # Rewinds so far. A member that has not seen the last one applies nothing.
    generation = models.BigIntegerField(db_default=0)
    # The inbox has forgotten events that the group applied and that were made before this. Null: it knows them all.
    forgotten_before = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name


class Rewind(models.Model):
    """Where a group is to read a partition from again. The member that has the partition seeks and deletes the row."""

    consumer_group = models.TextField()
    topic = models.TextField()
    partition = models.IntegerField()
    offset = models.BigIntegerField()
    requested_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["consumer_group", "topic", "partition"], name="rewind_of_a_partition_once")
        ]

    def __str__(self) -> str:
        return f"{self.consumer_group} to {self.topic}/{self.partition}/{self.offset}"
