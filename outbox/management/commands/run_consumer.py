"""manage.py run_consumer GROUP: apply a consumer group's events, until stopped."""

from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from outbox.consumer import BATCH_SIZE, Consumer
from outbox.registry import groups
from outbox.worker import stop_on_signals


def positive(text: str) -> int:
    """Return a whole number above zero."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


class Command(BaseCommand):
    help = "Apply the events of a consumer group. SIGTERM ends it after the batch in hand."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("group", help=f"one of {', '.join(groups())}")
        parser.add_argument(
            "--batch-size", type=positive, default=BATCH_SIZE, help="records in one transaction at most (%(default)s)"
        )
        parser.add_argument("--until-idle", action="store_true", help="exit when all that is there has been applied")

    def handle(self, *args: Any, group: str, batch_size: int, until_idle: bool, **options: Any) -> None:
        with stop_on_signals() as stop:
            try:
                consumer = Consumer(group, stop=stop, batch_size=batch_size, until_idle=until_idle)
            except LookupError as error:
                raise CommandError(error.args[0]) from error
            consumer.run()
