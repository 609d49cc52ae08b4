"""Forgetting what nobody needs any more beside the outbox: answers, tokens, sessions, notifications.

Run with: manage.py apply_retention. Celery does it each hour.
"""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from knox.models import AuthToken

from config.idempotency import RETENTION
from config.models import IdempotencyKey
from notifications.models import Notification

# Rows that one statement deletes at most, so that none holds its locks for long.
CHUNK = 5_000

logger = logging.getLogger(__name__)


def apply(*, now: datetime | None = None) -> dict[str, int]:
    """Delete answers that are not replayed any more, expired tokens and sessions, and what people were told long ago.

    Returns how many of each.
    """
    now = now or timezone.now()
    old = {
        "answers": IdempotencyKey.objects.filter(created_at__lte=now - RETENTION),
        "tokens": AuthToken.objects.filter(expiry__lte=now),
        "sessions": Session.objects.filter(expire_date__lte=now),
        "notifications": Notification.objects.told_before(now - timedelta(days=settings.NOTIFICATION_RETENTION_DAYS)),
    }
    deleted = {name: delete_in_chunks(rows) for name, rows in old.items()}
    logger.info("what is past its retention was deleted", extra=deleted)
    return deleted


def delete_in_chunks(rows: QuerySet[Any]) -> int:
    """Delete rows, at most CHUNK in a transaction. Return how many."""
    total = 0
    while True:
        with transaction.atomic():
            # Those that another transaction has in hand, as a key that is used again, wait for the next hour.
            chunk = rows.select_for_update(skip_locked=True).values("pk")[:CHUNK]
            deleted, _ = rows.model._default_manager.filter(pk__in=chunk).delete()
        total += deleted
        if deleted < CHUNK:
            return total
