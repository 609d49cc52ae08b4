"""manage.py replay_events GROUP: let a consumer group read events again."""

from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from outbox.consuming import rewinding
from outbox.consuming.replaying import Refused, Step, check_rebuild, from_beginning, from_offset, from_time
from outbox.management.trouble import told_in_a_line
from outbox.registry import groups

KNOWN = "What the inbox knows is not applied again: only events that the group has not applied are."


class Command(BaseCommand):
    help = (
        "Let a consumer group read events again that Kafka still holds. Its running members seek within seconds; if "
        f"there is none, the next one does. {KNOWN} With --rebuild, of a projection, everything is."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("group", help=f"one of {', '.join(groups())}")
        parser.add_argument(
            "--from",
            dest="at",
            metavar="TIME",
            help="all partitions from the first record at or after this time (ISO 8601 with zone)",
        )
        parser.add_argument("--topic", help="with --partition and --offset: that partition from that offset")
        parser.add_argument("--partition", type=int)
        parser.add_argument("--offset", type=int)
        parser.add_argument(
            "--rebuild",
            action="store_true",
            help="of a projection: clear what it has made, its inbox and its dead letters, and read everything",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        with told_in_a_line():
            self._handle(**options)

    def _handle(self, *, group: str, rebuild: bool, dry_run: bool, **options: Any) -> None:
        try:
            steps = self._steps(group, rebuild=rebuild, **options)
            if rebuild:
                check_rebuild(group, steps)
        except (Refused, LookupError) as error:
            raise CommandError(error.args[0]) from error
        for step in steps:
            self.stdout.write(str(step))
        # A rebuild forgets everything, so that all of it is read, also what is not committed yet.
        offsets = {step.place: step.target for step in steps if step.records or rebuild}
        if dry_run:
            self.stdout.write("nothing is changed: --dry-run")
        elif offsets:
            rewinding.ask(group, offsets, rebuild=rebuild)
            self.stdout.write("the group is told to read again; a group without running members does when it has one")
        if offsets and not rebuild:
            self.stdout.write(KNOWN)

    def _steps(
        self,
        group: str,
        *,
        rebuild: bool,
        at: str | None,
        topic: str | None,
        partition: int | None,
        offset: int | None,
        **options: Any,
    ) -> list[Step]:
        given = [value is not None for value in (topic, partition, offset)]
        if at is not None and any(given):
            raise CommandError("--from TIME and --topic --partition --offset exclude each other")
        if any(given):
            if topic is None or partition is None or offset is None:
                raise CommandError("--topic, --partition and --offset belong together")
            if rebuild:
                raise CommandError("--rebuild reads everything: it cannot be of one partition")
            return from_offset(group, topic, partition, offset)
        if at is not None:
            return from_time(group, parse_time(at))
        if not rebuild:
            raise CommandError("from where? --from TIME, or --topic T --partition P --offset N, or --rebuild")
        return from_beginning(group)


def parse_time(text: str) -> datetime:
    """Return the time that a person has typed.

    Raises:
        CommandError: it is no ISO 8601 time with a zone.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"--from {text}: not a time of ISO 8601, such as 2026-01-31T12:00:00Z") from error
    if at.tzinfo is None:
        raise CommandError(f"--from {text}: without a zone, such as Z or +01:00")
    return at
