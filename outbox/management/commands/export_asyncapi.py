"""manage.py export_asyncapi: the project's events as an AsyncAPI 3 document, and whether it keeps to the agreed one."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from outbox.contracts.asyncapi import document, dump
from outbox.contracts.compatibility import breaks
from outbox.contracts.event_map import flows


class Command(BaseCommand):
    help = (
        "Print the project's events as an AsyncAPI 3 document, or write it to a file, which then is what is agreed with"
        " the readers of the events: what would break them is refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        where = parser.add_mutually_exclusive_group()
        where.add_argument("--output", type=Path, metavar="FILE", help="write it there, unless it breaks what is there")
        where.add_argument("--check", type=Path, metavar="FILE", help="exit with 1 unless the file is just so")
        parser.add_argument("--force", action="store_true", help="write it even though it breaks what is there")

    def handle(self, *args: Any, output: Path | None, check: Path | None, force: bool, **options: Any) -> None:
        current = document(flows())
        if check:
            self._refuse_breaks(check, current)
            if check.read_text() != dump(current):
                raise CommandError(f"{check} is stale: run manage.py export_asyncapi --output {check}")
            self.stdout.write(f"{check} is what the code has")
        elif output:
            if output.exists() and not force:
                self._refuse_breaks(output, current)
            output.write_text(dump(current))
        else:
            self.stdout.write(dump(current), ending="")

    def _refuse_breaks(self, file: Path, current: dict[str, Any]) -> None:
        try:
            found = breaks(json.loads(file.read_text()), current)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CommandError(f"{file} is no document of this command: {error!r}") from error
        for line in found:
            self.stdout.write(line)
        if found:
            raise CommandError(f"readers of {file} would break: take this back, or raise the version of the event")
