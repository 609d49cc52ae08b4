"""manage.py relay_outbox: send what is in the outbox to Kafka, until stopped."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from outbox.relay import Relay
from outbox.worker import stop_on_signals


class Command(BaseCommand):
    help = "Send committed events from the outbox to Kafka, in order. SIGTERM ends it after the batch in hand."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="send what is there now, then exit")

    def handle(self, *args: Any, once: bool, **options: Any) -> None:
        with stop_on_signals() as stop:
            sent = Relay().run(stop, once=once)
        self.stdout.write(f"{sent} events sent")
