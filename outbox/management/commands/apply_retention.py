"""manage.py apply_retention: forget what need not be remembered any more."""

from typing import Any

from confluent_kafka import KafkaException
from django.core.management.base import BaseCommand

from outbox import conf
from outbox.events import DAY_MS
from outbox.management.trouble import told_in_a_line
from outbox.retention import Forgotten, apply, kept_longer


class Command(BaseCommand):
    help = "Drop the weeks of the inbox, and delete the solved failed messages, that are past their retention."

    def handle(self, *args: Any, **options: Any) -> None:
        with told_in_a_line():
            forgotten = apply()
        if forgotten is None:
            self.stdout.write("another one is at it")
        else:
            self._tell(forgotten)
        self._warn_of_topics()

    def _tell(self, forgotten: Forgotten) -> None:
        for name in forgotten.added:
            self.stdout.write(f"added {name}")
        for name in forgotten.dropped:
            self.stdout.write(f"dropped {name}")
        for name in forgotten.waiting:
            self.stdout.write(f"left for later {name}: in use, or events of that week are in the default partition")
        self.stdout.write(f"deleted {forgotten.entries} inbox entries of the default partition")
        self.stdout.write(f"deleted {forgotten.letters} failed messages")

    def _warn_of_topics(self) -> None:
        """Say which topics Kafka keeps for longer than the inbox remembers what was applied of them."""
        try:
            topics = kept_longer()
        except KafkaException as error:
            self.stderr.write(f"Kafka does not tell how long it keeps its topics: {error.args[0].str()}")
            return
        for name, retention_ms in topics:
            kept = "for ever" if retention_ms < 0 else f"for {retention_ms / DAY_MS:g} days"
            self.stderr.write(
                f"Kafka keeps {name} {kept}, the inbox remembers {conf.get('INBOX_RETENTION_DAYS')} days: "
                "an older event that comes again will be a failed message"
            )
