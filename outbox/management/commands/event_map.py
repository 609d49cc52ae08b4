"""manage.py event_map: who publishes what, and who handles it."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from outbox.contracts import event_map

FORMATS = {"page": event_map.page, "table": event_map.table, "mermaid": event_map.mermaid}


class Command(BaseCommand):
    help = "Print who publishes which events and which consumer groups handle them, as the code has it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--format",
            choices=FORMATS,
            default="page",
            help="page (the default) is Markdown with both, the Mermaid flowchart and the table",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(FORMATS[options["format"]](event_map.flows()), ending="")
