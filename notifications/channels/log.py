"""In place of a channel that is not set up: what would be sent goes to the log."""

import logging

from notifications.channels import Message, Send
from notifications.kinds import Channel

logger = logging.getLogger(__name__)


def to_log(channel: Channel) -> Send:
    """Return what writes messages to the log."""

    def send(message: Message) -> None:
        logger.info(
            "a message for a channel that is not set up",
            extra={
                "channel": channel.value,
                "to": message.address or "operators",
                "title": message.text.title,
                "body": message.text.body,
                "facts": "; ".join(f"{label}: {value}" for label, value in message.text.facts),
                "notification_id": str(message.id),
                "event_id": str(message.event_id),
            },
        )

    return send
