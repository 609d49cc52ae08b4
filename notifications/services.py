"""Everything that changes notifications. Each function is one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import transaction

from notifications.models import Notification
from notifications.texts import write


@dataclass(frozen=True)
class Notice:
    """What a user is to be told, and of which event. `facts` are what the text of the kind names."""

    event_id: UUID
    user_id: UUID
    kind: Notification.Kind
    subject_id: UUID | None = None
    facts: dict[str, str] = field(default_factory=dict)


@transaction.atomic
def notify(*, notices: Sequence[Notice]) -> None:
    """Notify users, each in their language, and of one event once.

    Raises:
        KeyError: there is no such user. Nothing was written.
    """
    users = get_user_model().objects.filter(pk__in={notice.user_id for notice in notices})
    languages = dict(users.values_list("pk", "language"))
    notifications = []
    for notice in notices:
        text = write(notice.kind, languages[notice.user_id], notice.facts)
        notifications.append(
            Notification(
                user_id=notice.user_id,
                kind=notice.kind,
                title=text.title,
                body=text.body,
                subject_id=notice.subject_id,
                event_id=notice.event_id,
            )
        )
    Notification.objects.bulk_create(notifications, ignore_conflicts=True)


@transaction.atomic
def mark_read(*, user_id: UUID, now: datetime, notification_id: UUID | None = None) -> None:
    """Mark one of a user's notifications as read, or all of them. What was read before keeps its time."""
    unread = Notification.objects.of(user_id).unread()
    if notification_id is not None:
        unread = unread.filter(pk=notification_id)
    unread.update(read_at=now)
