"""The table of requests that must not be done twice. config/idempotency.py writes and reads it."""

from datetime import datetime
from uuid import UUID

from django.db import models


class IdempotencyKeys(models.QuerySet["IdempotencyKey"]):
    def stored_since(self, moment: datetime, *, scope: UUID) -> "IdempotencyKey | None":
        """Return what was answered under a key, unless that was before a moment."""
        return self.filter(scope=scope, created_at__gt=moment).first()


class IdempotencyKey(models.Model):
    """A request that was done, and what was answered to it."""

    # Of who asked for what under which key: the first half of its SHA-256.
    scope = models.UUIDField(primary_key=True)
    # HMAC-SHA-256 of the body, in hexadecimal digits: a body may hold a password, which a plain hash would give away.
    fingerprint = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField()
    # Those of config.idempotency.KEPT_HEADERS that the answer had.
    headers = models.JSONField()
    # JSON, to the byte.
    body = models.BinaryField()
    created_at = models.DateTimeField(db_index=True)

    objects = IdempotencyKeys.as_manager()

    def __str__(self) -> str:
        return str(self.scope)
