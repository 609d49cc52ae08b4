"""manage.py create_topics: make the topics that the code declares."""

from typing import Any

from confluent_kafka import KafkaException
from django.core.management.base import BaseCommand, CommandError

from outbox.topics import create_topics


class Command(BaseCommand):
    help = "Create the declared topics that Kafka does not have. Differences of existing ones are told, never applied."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            created, differences = create_topics()
        except KafkaException as error:
            raise CommandError(f"Kafka: {error.args[0].str()}") from error
        for name in created:
            self.stdout.write(f"created {name}")
        for difference in differences:
            self.stdout.write(
                f"differs {difference.topic}: {difference.setting} is {difference.actual}, "
                f"declared {difference.declared}"
            )
        if not created and not differences:
            self.stdout.write("all topics are as declared")
