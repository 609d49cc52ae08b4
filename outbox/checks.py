"""System checks: what a person can misconfigure, said before anything runs. Those of the events: event_checks.py."""

import re
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.db import connections, router

from outbox import conf
from outbox.events import DAY_MS
from outbox.kafka import producer_config, topic_name
from outbox.registry import groups
from outbox.retention import remembered_too_short
from outbox.topics import declared_topics

# librdkafka properties that the relay and the consumers set themselves, and what depends on them.
OWNED = {
    "PRODUCER": (
        "outbox.E002",
        "the order of events",
        {"enable.idempotence", "acks", "enable.gapless.guarantee", "message.timeout.ms", "partitioner"},
    ),
    "CONSUMER": (
        "outbox.E003",
        "applying once",
        {
            "auto.offset.reset",
            "enable.auto.commit",
            "enable.auto.offset.store",
            "group.id",
            "partition.assignment.strategy",
        },
    ),
}
# The least and the most that a number may be.
RANGES: dict[str, tuple[float, float]] = {
    "REPLICATION_FACTOR": (1, 32_767),
    "MAX_EVENT_BYTES": (1_000, 1_000_000_000),
    "INBOX_RETENTION_DAYS": (1, 3_650),
    "FAILED_RETENTION_DAYS": (1, 3_650),
    "NOTIFY_INTERVAL_MS": (0, 60_000),
    "RETRY_SECONDS": (0.001, 86_400),
    "RETRY_LIMIT": (0, 1_000),
    "ALARM_SECONDS": (1, 86_400),
}
# Kafka's rule for the names of topics.
TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


@register()
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Check the dict OUTBOX of the settings."""
    numbers = list(_check_numbers())
    if numbers:
        return [*_check_names(), *numbers]
    return [
        *_check_names(),
        *_check_kafka(),
        *_check_properties(),
        *_check_prefix(),
        *_check_sizes(),
        *_check_foreign_topics(),
    ]


@register()
def check_topics(**kwargs: Any) -> list[CheckMessage]:
    """Check the topics that the code declares against the settings, and against each other."""
    if list(_check_numbers()):
        return []
    messages: list[CheckMessage] = []
    topics = declared_topics()
    for name in sorted({one.name for one in topics if sum(other.name == one.name for other in topics) > 1}):
        messages.append(
            Error(
                f"The topic {name} is declared twice, and not alike.",
                hint="Declare it once, and import it.",
                id="outbox.E011",
            )
        )
    for topic in topics:
        # Nobody in this project reads its copies.
        if topic.name.endswith("-dlq"):
            continue
        if remembered_too_short(topic):
            kept = f"for {topic.retention_ms / DAY_MS:g} days" if topic.retention_ms >= 0 else "for ever"
            messages.append(
                Error(
                    f"The topic {topic.name} keeps its events {kept}, but the inbox remembers "
                    f"{conf.get('INBOX_RETENTION_DAYS')} days: an older event that came again would be dead-lettered.",
                    hint='Raise OUTBOX["INBOX_RETENTION_DAYS"], or lower the topic\'s retention_ms.',
                    id="outbox.E012",
                )
            )
    return messages


@register()
def check_database(**kwargs: Any) -> list[CheckMessage]:
    """Check that the tables of this app are in PostgreSQL, for which its SQL is written."""
    from outbox.models import OutboxEvent

    alias = router.db_for_write(OutboxEvent)
    if connections[alias].vendor == "postgresql":
        return []
    return [
        Error(
            f"The outbox is in the database {alias!r}, which is no PostgreSQL.",
            hint="Set its ENGINE to django.db.backends.postgresql.",
            id="outbox.E013",
        )
    ]


def _check_names() -> Iterator[CheckMessage]:
    for name in sorted(set(getattr(settings, "OUTBOX", {})) - set(conf.DEFAULTS)):
        alike = get_close_matches(str(name).upper(), conf.DEFAULTS, n=1)
        yield Error(
            f"OUTBOX knows no setting {name}.",
            hint=f"Did you mean {alike[0]}?" if alike else "outbox/conf.py has those there are.",
            id="outbox.E004",
        )


def _check_kafka() -> Iterator[CheckMessage]:
    if not conf.get("KAFKA").get("bootstrap.servers"):
        yield Error(
            "OUTBOX has no Kafka to send to.", hint='Set OUTBOX["KAFKA"]["bootstrap.servers"].', id="outbox.E001"
        )


def _check_numbers() -> Iterator[CheckMessage]:
    for name, (least, most) in RANGES.items():
        value = conf.get(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:
            yield Error(
                f'OUTBOX["{name}"] is {value!r}, which is no number from {least:,} to {most:,}.',
                hint=f"The default is {conf.DEFAULTS[name]:,}.",
                id="outbox.E005",
            )


def _check_properties() -> Iterator[CheckMessage]:
    """Check the librdkafka properties: those that are ours to set, and then what librdkafka says of the others."""
    clients: dict[str, Callable[[dict[str, Any]], object]] = {"PRODUCER": Producer, "CONSUMER": Consumer}
    for setting, (number, what, owned) in OWNED.items():
        for name in sorted(owned & set(conf.get(setting))):
            yield Error(
                f'OUTBOX["{setting}"] sets {name}, on which {what} depends.',
                hint="Remove it: it is set already.",
                id=number,
            )
        # Without servers the client that is made here connects to nobody.
        left_out = {*owned, "bootstrap.servers"}
        given = {**conf.get("KAFKA"), **conf.get(setting)}
        properties = {name: value for name, value in given.items() if name not in left_out}
        if not properties:
            continue
        try:
            clients[setting]({"group.id": "check", "log_level": 2, **properties})
        except (KafkaException, TypeError, ValueError) as error:
            reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            yield Error(
                f'The Kafka client does not take OUTBOX["KAFKA"] and OUTBOX["{setting}"]: {reason}',
                hint="Its properties: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md",
                id="outbox.E006",
            )


def _check_prefix() -> Iterator[CheckMessage]:
    names = [topic_name(topic) for topic in declared_topics()]
    if wrong := [name for name in names if not TOPIC_NAME.fullmatch(name)]:
        yield Error(
            f"Kafka takes no topic of the name {wrong[0]!r}.",
            hint='Use letters, digits, dots, hyphens and underscores, 249 in all, in names and OUTBOX["PREFIX"].',
            id="outbox.E007",
        )


def _check_sizes() -> Iterator[CheckMessage]:
    limit = str(producer_config(lambda error: None)["message.max.bytes"])
    # What is no number, librdkafka complains of.
    if limit.isdecimal() and conf.get("MAX_EVENT_BYTES") > int(limit):
        yield Error(
            f"publish() takes events of {conf.get('MAX_EVENT_BYTES'):,} bytes, but the relay's producer only messages "
            f"of {int(limit):,}.",
            hint='Lower OUTBOX["MAX_EVENT_BYTES"], or raise message.max.bytes in OUTBOX["PRODUCER"].',
            id="outbox.E008",
        )


def _check_foreign_topics() -> Iterator[CheckMessage]:
    ours = {topic_name(topic) for topic in declared_topics()}
    for name, group in conf.get("FOREIGN_DEAD_LETTER_TOPICS").items():
        if name in ours:
            yield Error(
                f'OUTBOX["FOREIGN_DEAD_LETTER_TOPICS"] names {name}, a topic of this project: its events would come '
                "again and again.",
                hint="Remove it: this project's own dead letters are rows, and are retried from there.",
                id="outbox.E009",
            )
        if group not in groups():
            yield Error(
                f'OUTBOX["FOREIGN_DEAD_LETTER_TOPICS"] gives {name} to the group {group}, which has no handlers.',
                hint=f"There are {', '.join(groups()) or 'none'}.",
                id="outbox.E010",
            )
