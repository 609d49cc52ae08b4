"""The sender: sends what is due by e-mail and Telegram, with no transaction open. Celery wakes it each second.

What is to be sent are rows, so nothing is lost with Redis, Celery or this process, and any number of senders may run.
One that dies leaves what it had in hand to the others, when its lease is over; what it had sent and not yet recorded,
at most RECORD_SECONDS of work, is sent a second time.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from time import monotonic, sleep

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections

from notifications import services
from notifications.channels import Down, Message, Refused, Send, Unanswered, Unsent, mail, telegram
from notifications.kinds import Channel
from notifications.models import Notification
from notifications.services import Results, Trouble
from notifications.texts import write

# Messages that go over one connection.
BATCH = 50
# A sender takes up messages for so long: Celery has other work too.
SEND_SECONDS = 5.0
# What was sent is recorded this often.
RECORD_SECONDS = 0.5
# How long a sender waits for PostgreSQL to record what it has sent. With what it has been at before, shorter than a
# lease, and than Celery's limit.
PATIENCE_SECONDS = 60.0
# The keys of the advisory locks of who sends ("mail" and "tele" in ASCII, with room for places), and how many senders a
# channel bears at once. A bot may send little, and waits as a whole.
PLACES = {Channel.EMAIL: (0x6D61696C00, 2), Channel.TELEGRAM: (0x74656C6500, 1)}

WAYS: dict[Channel, Callable[[], AbstractContextManager[Send]]] = {
    Channel.EMAIL: mail.way,
    Channel.TELEGRAM: telegram.way,
}

logger = logging.getLogger(__name__)


def send_due(channel: Channel) -> int:
    """Send what is due on a channel until nothing is left, the channel is down, or SEND_SECONDS are over.

    Returns how many messages were sent.
    """
    end, sent = monotonic() + SEND_SECONDS, 0
    while monotonic() < end and (taken := services.take_due(channel=channel, limit=BATCH)):
        sent += _Batch(channel, taken).send(until=end)
    return sent


def message_of(notification: Notification) -> Message:
    """Return a notification as it is sent: to where its recipient is now, in the language that they have now."""
    user = notification.user
    if user is None:
        address, language = settings.TELEGRAM_CHAT_ID, settings.LANGUAGE_CODE
    else:
        address = user.email if notification.channel == Channel.EMAIL else user.telegram_chat_id
        language = user.language
    text = write(notification.kind, notification.context, subject_id=notification.subject_id, language=language)
    return Message(notification.id, notification.event_id, address, language, text)


class _Batch:
    """Notifications that were taken together, and what became of them so far."""

    def __init__(self, channel: Channel, taken: Sequence[Notification]) -> None:
        self._channel, self._taken = channel, taken
        self._results = Results()
        self._recorded_at = monotonic()
        self._sent = 0

    def send(self, *, until: float) -> int:
        """Send them one after the other, and record what became of them, until a moment or the channel is down."""
        remaining = iter(self._taken)
        trouble: Trouble | None = None
        try:
            with ExitStack() as opened:
                send = self._open(opened)
                for notification in remaining:
                    self._send_one(send, notification)
                    if monotonic() > self._recorded_at + RECORD_SECONDS:
                        self._record()
                    if monotonic() > until:
                        break
        except Down as error:
            trouble = Trouble(str(error), seconds=error.seconds)
        except Unanswered as error:
            trouble = Trouble(str(error), longest=services.LAST_SILENCE_SECONDS)
        except (OperationalError, InterfaceError):
            # PostgreSQL is away, or was: what was sent is to be recorded, and no more is sent until it is.
            logger.exception("what was sent could not be recorded; it is tried again")
        self._results.untried += [notification.id for notification in remaining]
        self._record_at_last(trouble)
        return self._sent

    def _open(self, opened: ExitStack) -> Send:
        try:
            return opened.enter_context(WAYS[self._channel]())
        except Down:
            raise
        except Exception as error:
            logger.exception("a channel cannot be opened", extra={"channel": self._channel.value})
            raise Down(type(error).__name__) from error

    def _send_one(self, send: Send, notification: Notification) -> None:
        results = self._results
        try:
            message = message_of(notification)
            if notification.user and not message.address:
                raise Refused("The user has no address on this channel any more.")
            send(message)
        except Refused as error:
            results.refused[notification.id] = str(error)
            self._warn("a message was refused", notification, error)
        except Down:
            results.untried.append(notification.id)
            raise
        except Unsent as error:
            results.unsent[notification.id] = str(error)
            self._warn("a message was not sent; it is tried again", notification, error)
            if isinstance(error, Unanswered):
                raise
        except Exception as error:
            # It keeps no other waiting.
            results.unsent[notification.id] = repr(error)
            logger.exception("a message could not be made; it is tried again", extra=self._told(notification))
        else:
            results.sent.append(notification.id)
            self._sent += 1

    def _record(self, trouble: Trouble | None = None) -> None:
        is_over = services.record(channel=self._channel, taken=self._taken, results=self._results, trouble=trouble)
        self._results, self._recorded_at = Results(), monotonic()
        told = {"channel": self._channel.value}
        if trouble:
            told["error"] = trouble.error
            logger.warning("a channel takes no messages; it is left alone for a while", extra=told)
        elif is_over:
            logger.info("a channel takes messages again", extra=told)

    def _record_at_last(self, trouble: Trouble | None) -> None:
        """Record the rest; while PostgreSQL is away, again and again for as long as nobody else takes them."""
        end = monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self._record(trouble)
            except (OperationalError, InterfaceError):
                if monotonic() > end:
                    raise
                close_old_connections()
                sleep(RECORD_SECONDS)
            else:
                return

    def _warn(self, what: str, notification: Notification, error: Exception) -> None:
        logger.warning(what, extra={**self._told(notification), "error": str(error)})

    def _told(self, notification: Notification) -> dict[str, str]:
        return {
            "channel": self._channel.value,
            "notification_id": str(notification.id),
            "event_id": str(notification.event_id),
        }
