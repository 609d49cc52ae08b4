"""What a page shows of a dead letter beside its columns."""

import re
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.db.models import BinaryField, F, Func, Model, QuerySet
from django.utils.text import Truncator

from outbox.admin.pages import laid_out, what_happened
from outbox.letters.dead_letters import storable
from outbox.models import FailedMessage, ParkedEvent
from outbox.registry import RELAY

# Parked events that a letter's page lists.
PARKED_SHOWN = 100
# Bytes of a request that the other fields of the editor's form take.
FORM_BYTES = 10_000


def in_short(letter: FailedMessage) -> str:
    """Return what happened in a line."""
    # A traceback names an error with its module.
    line = re.sub(rf"^([\w.]+\.)?{re.escape(letter.error_class)}(: |$)", "", what_happened(letter.error))
    return Truncator(f"{letter.error_class}: {line}" if line else letter.error_class).chars(100)


def editable(letter: FailedMessage) -> str | None:
    """Return what the editor is to hold, or None where the value is larger than can be sent back."""
    text = storable(bytes(letter.value or b"").decode(errors="backslashreplace"))
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    for candidate in (laid_out(text), text):
        # A browser sends two bytes for the end of a line.
        if limit is None or len(candidate.encode()) + candidate.count("\n") + FORM_BYTES <= limit:
            return same_lines(candidate)
    return None


def same_lines(text: str) -> str:
    """Return text with the ends of lines that a browser makes of all others."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def of_key(model: type[Model], key: bytes) -> QuerySet[Any]:
    """Return the letters or parked events of a key, of all groups, as the indexes find them."""
    key_hash = Func(F("key"), function="sha256", output_field=BinaryField())
    return model._default_manager.alias(key_hash=key_hash).filter(key_hash=sha256(key).digest(), key=key)


def _scope(model: type[Model], letter: FailedMessage) -> QuerySet[Any]:
    """Return the rows of a letter's group and key."""
    return of_key(model, bytes(letter.key or b"")).filter(consumer_group=letter.consumer_group)


def behind(letter: FailedMessage) -> dict[str, Any]:
    """Return the letter behind which this one waits, or else the events that wait behind this one."""
    if not letter.parks or not letter.is_open:
        return {}
    older = _scope(FailedMessage, letter).filter(status__in=FailedMessage.OPEN, parks=True, pk__lt=letter.pk)
    older = older.order_by("id")
    if letter.consumer_group == RELAY:
        # The relay keeps a key's order in each topic.
        older = older.filter(topic=letter.topic)
    parked = _scope(ParkedEvent, letter)
    return {
        "waits_behind": older.values_list("id", flat=True).first(),
        "parked_count": parked.count(),
        "parked": parked.order_by("id").defer("value", "headers", "key")[:PARKED_SHOWN],
        "parked_shown": PARKED_SHOWN,
    }
