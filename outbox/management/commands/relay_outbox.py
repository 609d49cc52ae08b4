"""manage.py relay_outbox: send what is in the outbox to Kafka, until stopped."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from outbox.relay.relay import Relay
from outbox.watching.gauges import Gauges
from outbox.watching.health import add_health_argument, process_metrics, serve
from outbox.worker import stop_on_signals


class Command(BaseCommand):
    help = "Send committed events from the outbox to Kafka, in order. SIGTERM ends it after the batch in hand."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="send what is there now, then exit")
        add_health_argument(parser)

    def handle(self, *args: Any, once: bool, health_port: int | None, **options: Any) -> None:
        relay = Relay()
        with stop_on_signals() as stop, Gauges() as gauges:
            metrics = [process_metrics(), gauges]
            with serve(health_port, hung=relay.health.hung, not_ready=relay.not_ready, metrics=metrics):
                sent = relay.run(stop, once=once)
        self.stdout.write(f"{sent} events sent")
