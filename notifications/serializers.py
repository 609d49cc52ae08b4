"""The JSON of notifications."""

from rest_framework import serializers

from config.describing import example
from notifications.models import Notification


@example(
    id="0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f00",
    kind="ORDER_COMPLETED",
    title="Your order is complete",
    body="Order 0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f00 is paid: 25.00 USD.",
    subject_id="0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f00",
    read_at=None,
    created_at="2026-11-21T21:15:00.500000Z",
)
class NotificationOut(serializers.ModelSerializer[Notification]):
    class Meta:
        model = Notification
        fields = ["id", "kind", "title", "body", "subject_id", "read_at", "created_at"]
        read_only_fields = fields
