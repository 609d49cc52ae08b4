"""The JSON of notifications, and of what a user wants to be told."""

from typing import Any
from uuid import UUID

from rest_framework import serializers

from config.api import StrictSerializer, TrueOrFalse
from config.describing import example
from notifications.kinds import Channel, Kind
from notifications.models import Notification, OptOut
from notifications.texts import Text, write


@example(
    id="0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f00",
    kind="ORDER_COMPLETED",
    title="Your order is complete",
    body="It is paid: 25.00 USD in all.",
    subject_id="0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f00",
    read_at=None,
    created_at="2026-11-21T21:15:00.500000Z",
)
class NotificationOut(serializers.ModelSerializer[Notification]):
    title = serializers.SerializerMethodField()
    body = serializers.SerializerMethodField()

    class Meta:
        model = Notification
        fields = ["id", "kind", "title", "body", "subject_id", "read_at", "created_at"]
        read_only_fields = fields

    def get_title(self, notification: Notification) -> str:
        return self._text(notification).title

    def get_body(self, notification: Notification) -> str:
        return self._text(notification).body

    def _text(self, notification: Notification) -> Text:
        language = self.context["request"].user.language
        return write(notification.kind, notification.context, subject_id=notification.subject_id, language=language)


class Channels(StrictSerializer):
    """Whether one is told something, by channel."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {channel.value: TrueOrFalse(required=False) for channel in Channel}


class Preferences(StrictSerializer):
    """What one wants to be told, by kind and channel. What is not named stays as it is; at first it is all."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {kind.value: Channels(required=False) for kind in Kind}

    @staticmethod
    def of(user_id: UUID) -> dict[str, dict[str, bool]]:
        """Return all of a user's."""
        return OptOut.objects.wanted_by(user_id)
