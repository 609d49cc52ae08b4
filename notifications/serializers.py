"""The JSON of notifications."""

from rest_framework import serializers

from notifications.models import Notification


class NotificationOut(serializers.ModelSerializer[Notification]):
    class Meta:
        model = Notification
        fields = ["id", "kind", "title", "body", "subject_id", "read_at", "created_at"]
        read_only_fields = fields
