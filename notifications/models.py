"""The tables of notifications, of who does not want which, and of channels that take nothing for a while."""

from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models.functions import Cast, Concat, Now
from django.utils import timezone
from uuid_utils.compat import uuid7

from notifications.kinds import Channel, Kind


class NotificationQuerySet(models.QuerySet["Notification"]):
    def inbox(self, user_id: UUID) -> "NotificationQuerySet":
        """Keep what a user reads in the app."""
        return self.filter(user_id=user_id, channel=Channel.IN_APP)

    def unread(self) -> "NotificationQuerySet":
        return self.filter(read_at=None)

    def told_before(self, moment: datetime) -> "NotificationQuerySet":
        """Keep what was made before a moment, and was sent. The oldest first."""
        # Ids are made in the order of time (RFC 9562), so their index finds the oldest.
        first_id = UUID(int=int(moment.timestamp() * 1000) << 80)
        return self.filter(pk__lt=first_id, status=Notification.Status.SENT).order_by("pk")

    def lock_due(self, channel: Channel, limit: int) -> list[UUID]:
        """Return ids of what is to be sent on a channel now, locked until the transaction ends.

        What was tried least comes first, so that none that fails keeps others waiting; then the longest due. What
        somebody else holds is left out: it is being taken.
        """
        due = self.filter(status=Notification.Status.PENDING, channel=channel, due_at__lte=Now())
        due = due.order_by("attempts", "due_at")
        return list(due.select_for_update(no_key=True, skip_locked=True).values_list("pk", flat=True)[:limit])


class Notification(models.Model):
    """What one recipient is told about one event on one channel.

    In the app it is there with its row. By e-mail and Telegram it is sent by notifications/sending.py.
    """

    class Status(models.TextChoices):
        PENDING = "PENDING"  # to be sent, or being sent
        SENT = "SENT"
        FAILED = "FAILED"  # will not be sent, unless a person lets it be sent again

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # Null: the operators, who have a chat of their own.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="notifications"
    )
    channel = models.CharField(max_length=10, choices=Channel)
    # Which text it is: notifications/texts.py.
    kind = models.CharField(max_length=20, choices=Kind)
    # What the text names: {"amount": "12.50", "currency": "USD"}. It is written when it is sent or read, in the
    # language that the user has then.
    context = models.JSONField(default=dict)
    # The order's or the post's id, where it is about one.
    subject_id = models.UUIDField(null=True, blank=True)
    event_id = models.UUIDField()
    status = models.CharField(max_length=10, choices=Status)
    # When it is sent, or sent again unless that is known to have succeeded until then. Null: there is nothing to send.
    due_at = models.DateTimeField(null=True, blank=True)
    # How often it was tried, and what went wrong the last time.
    attempts = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    sent_at = models.DateTimeField(null=True, blank=True)
    read_at = models.DateTimeField(null=True, blank=True)
    # Sorted downwards: the unread first, then the newest. One column, so that a cursor can point into the list.
    place = models.GeneratedField(
        expression=Concat(
            models.Case(models.When(read_at=None, then=models.Value("1")), default=models.Value("0")),
            Cast("id", models.CharField()),
        ),
        output_field=models.CharField(),
        db_persist=True,
    )

    objects = NotificationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        permissions = [("resend_notification", "Can send failed notifications again")]
        constraints = [
            # Of an event that is delivered twice, too.
            models.UniqueConstraint(
                fields=["event_id", "user", "channel"], nulls_distinct=False, name="notification_once"
            ),
            models.CheckConstraint(
                condition=models.Q(status="PENDING", due_at__isnull=False, sent_at__isnull=True)
                | models.Q(status="SENT", due_at__isnull=True, sent_at__isnull=False)
                | models.Q(status="FAILED", due_at__isnull=True, sent_at__isnull=True),
                name="notification_times_fit_status",
            ),
            models.CheckConstraint(
                condition=models.Q(channel="IN_APP", status="SENT", user__isnull=False)
                | models.Q(channel="EMAIL", read_at__isnull=True, user__isnull=False)
                | models.Q(channel="TELEGRAM", read_at__isnull=True),
                name="notification_fits_channel",
            ),
        ]
        indexes = [
            models.Index(fields=["user", "-place"], condition=models.Q(channel="IN_APP"), name="notification_in_list"),
            models.Index(
                fields=["user"], condition=models.Q(channel="IN_APP", read_at=None), name="notification_unread"
            ),
            models.Index(
                fields=["channel", "attempts", "due_at"], condition=models.Q(status="PENDING"), name="notification_due"
            ),
            models.Index(fields=["channel"], condition=models.Q(status="FAILED"), name="notification_failed"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} to {self.user or 'the operators'}, {self.get_channel_display()}"


class OptOutQuerySet(models.QuerySet["OptOut"]):
    def of(self, user_id: UUID) -> "OptOutQuerySet":
        """Keep a user's own."""
        return self.filter(user_id=user_id)

    def wanted_by(self, user_id: UUID) -> dict[str, dict[str, bool]]:
        """Return whether a user wants to be told, by kind and channel."""
        unwanted = set(self.of(user_id).values_list("kind", "channel"))
        return {kind: {channel: (kind, channel) not in unwanted for channel in Channel.values} for kind in Kind.values}


class OptOut(models.Model):
    """That a user does not want to be told something on a channel. Without such a row they are."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="opt_outs")
    kind = models.CharField(max_length=20, choices=Kind)
    channel = models.CharField(max_length=10, choices=Channel)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = OptOutQuerySet.as_manager()

    class Meta:
        ordering = ["user", "kind", "channel"]
        constraints = [models.UniqueConstraint(fields=["user", "kind", "channel"], name="opt_out_once")]

    def __str__(self) -> str:
        return f"{self.kind}, {self.get_channel_display()}"


class OutageQuerySet(models.QuerySet["Outage"]):
    def is_paused(self, channel: Channel) -> bool:
        """Return whether a channel is to be left alone for now."""
        return self.filter(channel=channel, paused_until__gt=Now()).exists()


class Outage(models.Model):
    """A channel that takes nothing, whatever the message. The row goes when something was sent again."""

    channel = models.CharField(primary_key=True, max_length=10, choices=Channel)
    since = models.DateTimeField(default=timezone.now, editable=False)
    # How often in a row it was found so.
    failures = models.PositiveIntegerField(default=1)
    paused_until = models.DateTimeField()
    error = models.TextField()

    objects = OutageQuerySet.as_manager()

    class Meta:
        permissions = [("end_outage", "Can let channels be tried at once")]

    def __str__(self) -> str:
        return self.get_channel_display()
