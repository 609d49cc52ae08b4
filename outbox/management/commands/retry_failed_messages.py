"""manage.py retry_failed_messages: retry open dead letters now, one after the other."""

import logging
from argparse import ArgumentTypeError
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from outbox.events import event_classes
from outbox.letters.dead_letters import in_short
from outbox.letters.retrying import Refused, dry_run, retry
from outbox.management.trouble import told_in_a_line
from outbox.models import FailedMessage
from outbox.registry import RELAY, groups

logger = logging.getLogger(__name__)

# Characters of an error in a line.
ERROR_LIMIT = 200


def moment(text: str) -> datetime:
    """Return an ISO 8601 time; without an offset from UTC it is one of the project's time zone."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not an ISO 8601 time, such as 2026-01-31T08:00:00Z") from error
    return timezone.make_aware(time) if timezone.is_naive(time) else time


class Command(BaseCommand):
    help = "Retry open failed messages (PENDING and FAILED), the oldest first, each in a transaction of its own."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--group", help="only those of this consumer group, or of the relay")
        parser.add_argument("--type", dest="event_type", metavar="TYPE", help="only those of this event type")
        parser.add_argument("--since", type=moment, metavar="TIME", help="only those that failed first since then")
        parser.add_argument("--dry-run", action="store_true", help="say what would come of it, and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        with told_in_a_line():
            self._handle(**options)

    def _handle(
        self, *, group: str | None, event_type: str | None, since: datetime | None, dry_run: bool, **options: Any
    ) -> None:
        letters = self._letters(group, event_type, since)
        if not dry_run:
            logger.info(
                "failed messages are retried by command",
                extra={
                    "group": group,
                    "event_type": event_type,
                    "since": since and since.isoformat(),
                    "letters": len(letters),
                },
            )
        failing = 0
        for letter_id, name in letters:
            error, rest = self._try(letter_id) if dry_run else self._retry(letter_id)
            failing += bool(error)
            self.stdout.write(f"{letter_id} {name}: {error or rest}")
        what = "would be applied" if dry_run else "applied"
        summary = f"{len(letters)} failed messages: {len(letters) - failing} {what}, {failing} not"
        if failing:
            raise CommandError(summary)
        self.stdout.write(summary)

    def _letters(self, group: str | None, event_type: str | None, since: datetime | None) -> list[tuple[int, str]]:
        if group is not None and group not in (*groups(), RELAY):
            raise CommandError(f"There is no consumer group {group!r}, but {', '.join((*groups(), RELAY))}.")
        if event_type is not None and event_type not in {cls.type for cls in event_classes}:
            raise CommandError(f"There is no event type {event_type!r} in this project.")
        letters = FailedMessage.objects.open().order_by("id").defer("value", "headers", "error")
        if group is not None:
            letters = letters.filter(consumer_group=group)
        if event_type is not None:
            letters = letters.filter(event_type=event_type)
        if since is not None:
            letters = letters.filter(created_at__gte=since)
        return [(letter.pk, f"{letter.consumer_group}, {letter}") for letter in letters.iterator()]

    def _retry(self, letter_id: int) -> tuple[str, str]:
        """Return why it was not applied, or else what came of it."""
        try:
            outcome = retry(letter_id)
        except Refused as refusal:
            return str(refusal), ""
        released = f", and {outcome.released} parked behind it" if outcome.released else ""
        return in_short(outcome.error)[:ERROR_LIMIT], f"applied{released}"

    def _try(self, letter_id: int) -> tuple[str, str]:
        """Return why it would not be applied, or else what would come of it."""
        try:
            outcome = dry_run(letter_id)
        except Refused as refusal:
            return str(refusal), ""
        types = ", ".join(event_type for event_type, _, _ in outcome.published)
        return in_short(outcome.error)[:ERROR_LIMIT], f"would be applied{', and publish ' if types else ''}{types}"
