"""What is the same about dead letters that failed for the same reason, as a text that a person can read."""

import re

# Characters: of an event type, which may be anybody's garbage, and of all.
TYPE_LIMIT, LIMIT = 100, 300
# Characters of a message that are looked at.
MESSAGE_LIMIT = 1_000

# Names that PostgreSQL quotes tell failures apart; other quoted words are what differs from event to event.
NAMED = r'(?P<named>\b(?:relation|constraint|column|table|index|view|type|function|sequence)\s"[^"]*")'
VALUES = re.compile(
    rf"""{NAMED}
    |(?P<uuid>[0-9a-fA-F]{{8}}-?(?:[0-9a-fA-F]{{4}}-?){{3}}[0-9a-fA-F]{{12}})
    |(?P<quoted>"[^"]*"|'(?:[^'\\]|\\.)*'(?!\w))
    |(?P<number>\b0x[0-9a-fA-F]+|\d+(?:[.,:\-T]\d+)*)""",
    re.VERBOSE,
)
INSTEAD = {"uuid": "<uuid>", "quoted": "'…'", "number": "#"}


def fingerprint(group: str, event_type: str, error_class: str, message: str) -> str:
    """Return what failures of one kind share: group, type, error and its message without numbers, ids and quotes.

    Of a message of several lines the first one counts: below it, PostgreSQL tells of the row.
    """
    line = message.strip().partition("\n")[0][:MESSAGE_LIMIT]
    reason = VALUES.sub(_instead, line)
    return f"{group} {event_type[:TYPE_LIMIT] or 'unreadable'} {error_class}: {reason}"[:LIMIT].rstrip()


def _instead(match: re.Match[str]) -> str:
    kind = match.lastgroup or "named"
    return match[0] if kind == "named" else INSTEAD[kind]
