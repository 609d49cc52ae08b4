"""What every log line of a handler tells, whoever writes it. In settings: LOGGING, on the handlers (not the loggers).

"filters": {"context": {"()": "outbox.logs.ContextFilter"}},
"handlers": {"console": {"class": "logging.StreamHandler", "filters": ["context"], …}},
"""

import logging

from outbox import context
from outbox.middleware import TRACE


class ContextFilter(logging.Filter):
    """Adds to each record what is being handled, as `extra=` would, and drops none.

    In a handler that has one event in hand: group, event_id, event_type, key, topic, partition, offset and trace_id. In
    one that has several: group, and in `events` how many. Of a request: trace_id. What the caller's `extra` has, stays.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in (context.log_fields() or _request_fields(record)).items():
            if name not in record.__dict__:
                record.__dict__[name] = value
        return True


def _request_fields(record: logging.LogRecord) -> dict[str, object]:
    """Return what a line about a request tells of it."""
    trace = getattr(getattr(record, "request", None), "META", {}).get(TRACE)
    return {"trace_id": trace.trace_id} if trace else {}
