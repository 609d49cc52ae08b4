"""Three tables: what is to be sent, what was applied, and what could not be applied."""

from django.db import models


class OutboxEvent(models.Model):
    """A record that waits to be sent to Kafka. Written by publish(), deleted when Kafka has acknowledged it."""

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

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.event_type} {self.event_id or self.pk}"


class InboxEvent(models.Model):
    """An event that a consumer group has applied, in the same transaction. Its row is what makes it once."""

    consumer_group = models.TextField()
    event_id = models.UUIDField()
    event_type = models.TextField()
    # Where it was read first.
    topic = models.TextField()
    partition = models.IntegerField()
    offset = models.BigIntegerField()
    applied_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["event_id", "consumer_group"], name="inbox_applied_once")]

    def __str__(self) -> str:
        return f"{self.event_type} {self.event_id} in {self.consumer_group}"


class FailedMessage(models.Model):
    """A dead letter: a record that a group could not apply, as it came from Kafka.

    Of an outbox row that Kafka refused for good, the group is "relay", the partition -1 and the offset the row's id.
    """

    class Status(models.TextChoices):
        PENDING = "PENDING"  # waits for its next automatic retry
        PROCESSED = "PROCESSED"  # applied by a retry
        FAILED = "FAILED"  # waits for a person
        DISCARDED = "DISCARDED"  # given up by a person

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
    # Automatic retries so far.
    attempts = models.PositiveIntegerField(default=0)
    status = models.CharField(max_length=10, choices=Status)
    next_retry_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    processed_at = models.DateTimeField(null=True, blank=True)

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
                condition=models.Q(status__in=["PENDING", "FAILED"]),
                name="failed_message_open",
            ),
            models.Index(fields=["event_id"], name="failed_message_event"),
        ]

    def __str__(self) -> str:
        return f"{self.event_type or 'unreadable'} at {self.topic}/{self.partition}/{self.offset}"
