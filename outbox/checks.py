"""System checks: what a person can misconfigure, said before anything runs."""

from typing import Any

from django.core.checks import CheckMessage, Error, register

from outbox import conf


@register()
def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Check the dict OUTBOX of the settings."""
    errors: list[CheckMessage] = []
    if not conf.get("KAFKA").get("bootstrap.servers"):
        errors.append(
            Error(
                "OUTBOX has no Kafka to send to.",
                hint='Set OUTBOX["KAFKA"]["bootstrap.servers"].',
                id="outbox.E001",
            )
        )
    owned = {"enable.idempotence", "acks", "enable.gapless.guarantee", "message.timeout.ms", "partitioner"}
    for name in sorted(owned & set(conf.get("PRODUCER"))):
        errors.append(
            Error(
                f'OUTBOX["PRODUCER"] sets {name}, on which the order of events depends.',
                hint="Remove it: the relay sets it.",
                id="outbox.E002",
            )
        )
    owned = {
        "auto.offset.reset",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "group.id",
        "partition.assignment.strategy",
    }
    for name in sorted(owned & set(conf.get("CONSUMER"))):
        errors.append(
            Error(
                f'OUTBOX["CONSUMER"] sets {name}, on which applying once depends.',
                hint="Remove it: the consumer sets it.",
                id="outbox.E003",
            )
        )
    return errors
