"""E-mail, through Django's backend. RFC 5321 tells what the codes of an SMTP server mean."""

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import parseaddr

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.template.loader import render_to_string

from notifications import texts
from notifications.channels import Down, Message, Refused, Send, Unanswered, Unsent
from notifications.channels.log import to_log
from notifications.kinds import Channel

# The server closes the connection: it shuts down, or has had enough of us.
CLOSING = 421
# The message is larger than the server takes (RFC 1870). It says so of the sender, before it has the message.
TOO_LARGE = 552
# From here on, nothing will be another next time.
PERMANENT = 500


@contextmanager
def way() -> Iterator[Send]:
    """Connect, and give what sends e-mails over this one connection.

    Raises:
        Down: nobody answers, or does not let us in.
    """
    if not settings.EMAIL_IS_SET:
        yield to_log(Channel.EMAIL)
        return
    if not settings.EMAIL_IS_READABLE:
        raise Down("EMAIL_URL is no address of a mail server.")
    connection = get_connection()
    connect(connection)
    # Whether the server refused the last message. Some hang up then.
    refused = False

    def send_over_it(message: Message) -> None:
        nonlocal refused
        if refused and not answers(connection):
            disconnect(connection)
            connect(connection)
        refused = True
        send(connection, message)
        refused = False

    try:
        yield send_over_it
    finally:
        disconnect(connection)


def connect(connection: BaseEmailBackend) -> None:
    try:
        connection.open()
    except (OSError, smtplib.SMTPException) as error:
        disconnect(connection)
        raise Down(told(error)) from error


def disconnect(connection: BaseEmailBackend) -> None:
    # Of a connection that is gone already.
    with suppress(OSError, smtplib.SMTPException):
        connection.close()


def answers(connection: BaseEmailBackend) -> bool:
    """Return whether the server is still there."""
    server = getattr(connection, "connection", None)
    if not isinstance(server, smtplib.SMTP):
        return True
    try:
        return server.noop()[0] < PERMANENT
    except (OSError, smtplib.SMTPException):
        return False


def send(connection: BaseEmailBackend, message: Message) -> None:
    """Send an e-mail.

    Raises:
        Refused: the address or the message is not taken, and never will be.
        Unsent: not this time.
        Unanswered: the server went away meanwhile.
        Down: the server does not let us send.
    """
    try:
        connection.send_messages([letter(message)])
    except smtplib.SMTPRecipientsRefused as error:
        [(code, answer)] = error.recipients.values()
        raise sorted_out(code, answer) from error
    except smtplib.SMTPSenderRefused as error:
        if error.smtp_code == TOO_LARGE:
            raise Refused(told(error)) from error
        # The sender is ours, whatever the message.
        raise Down(told(error)) from error
    except smtplib.SMTPHeloError as error:
        # smtplib greets before the first message where it need not log in.
        raise Down(told(error)) from error
    except smtplib.SMTPResponseException as error:
        raise sorted_out(error.smtp_code, error.smtp_error) from error
    except (OSError, smtplib.SMTPException) as error:
        raise Unanswered(told(error)) from error


def letter(message: Message) -> EmailMultiAlternatives:
    """Return a message as text and as HTML. Its Message-ID is the same each time it is sent."""
    sender = settings.EMAIL_FROM
    domain = parseaddr(sender)[1].rpartition("@")[2]
    reference, repeat, switch_off = texts.words(message.language, texts.REFERENCE, texts.REPEAT, texts.SWITCH_OFF)
    context = {
        "text": message.text,
        "language": message.language,
        "facts": [*message.text.facts, (reference, str(message.id))],
        "notes": [repeat, switch_off],
    }
    mail = EmailMultiAlternatives(
        message.text.title,
        render_to_string("notifications/email.txt", context),
        sender,
        [message.address],
        headers={
            "Message-ID": f"<{message.id}@{domain}>",
            "X-Event-ID": str(message.event_id),
            "Content-Language": message.language,
            # That no absence is answered to it (RFC 3834).
            "Auto-Submitted": "auto-generated",
        },
    )
    mail.attach_alternative(render_to_string("notifications/email.html", context), "text/html")
    return mail


def sorted_out(code: int, answer: bytes | str) -> Exception:
    """Return what an answer to a message means."""
    text = f"{code} {answer.decode(errors='replace') if isinstance(answer, bytes) else answer}"
    if code == CLOSING:
        return Unanswered(text)
    return Refused(text) if code >= PERMANENT else Unsent(text)


def told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
