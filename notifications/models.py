"""The table of notifications."""

from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models.functions import Cast, Concat
from django.utils import timezone
from uuid_utils.compat import uuid7


class NotificationQuerySet(models.QuerySet["Notification"]):
    def of(self, user_id: UUID) -> "NotificationQuerySet":
        """Keep a user's own."""
        return self.filter(user_id=user_id)

    def unread(self) -> "NotificationQuerySet":
        return self.filter(read_at=None)


class Notification(models.Model):
    """What a user is told about one event, in the user's language."""

    class Kind(models.TextChoices):
        WELCOME = "WELCOME"
        ORDER_COMPLETED = "ORDER_COMPLETED"
        ORDER_CANCELLED = "ORDER_CANCELLED"
        PAYMENT_REFUNDED = "PAYMENT_REFUNDED"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="notifications")
    kind = models.CharField(max_length=20, choices=Kind)
    title = models.CharField(max_length=200)
    body = models.TextField()
    # The order's id, where it is about one.
    subject_id = models.UUIDField(null=True, blank=True)
    event_id = models.UUIDField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)
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
        constraints = [models.UniqueConstraint(fields=["event_id", "user"], name="notification_once")]
        indexes = [
            models.Index(fields=["user", "-place"], name="notification_in_list"),
            models.Index(fields=["user"], condition=models.Q(read_at=None), name="notification_unread"),
        ]

    def __str__(self) -> str:
        return self.title
