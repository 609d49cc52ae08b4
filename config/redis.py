"""Redis as a help that may be away: asked with short time-outs, and after a failure not at all for a moment.

Whoever asks catches redis.RedisError and goes on without it, by PostgreSQL. Celery has connections of its own.
"""

import logging
import time
from functools import lru_cache
from typing import Any
from weakref import WeakSet

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

# After a failure Redis is not asked for so long, so that one that hangs costs a fifth of the time at most.
PAUSE_SECONDS = 1.0

logger = logging.getLogger(__name__)


class QuickPool(redis.ConnectionPool):
    """Connections with short time-outs; after one has failed, none is given out for PAUSE_SECONDS.

    Counts in Redis, under `connections_key`, that a process connects, or connects again after a connection broke.
    """

    def __init__(self, **options: Any) -> None:
        self._paused_until = 0.0
        quick = {
            "socket_connect_timeout": settings.REDIS_TIMEOUT_SECONDS,
            "socket_timeout": settings.REDIS_TIMEOUT_SECONDS,
            "retry": Retry(NoBackoff(), 0),
            "redis_connect_func": self._connect,
        }
        super().__init__(**{**quick, **options})

    def reset(self) -> None:
        """Begin anew, as a process does that was forked."""
        self._has_counted = False
        self._seen: WeakSet[redis.Connection] = WeakSet()
        super().reset()

    def get_connection(self, *args: Any, **options: Any) -> redis.Connection:
        """Return a connection that is ready for a command.

        Raises:
            redis.ConnectionError: Redis is away, or was a moment ago.
        """
        if time.monotonic() < self._paused_until:
            raise redis.ConnectionError("Redis failed a moment ago")
        return super().get_connection(*args, **options)

    def release(self, connection: Any) -> None:
        # redis-py closes a connection that failed or timed out, and gives back all others open.
        if not connection.is_connected:
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            self._has_counted = False
            logger.warning("Redis did not answer", extra={"pause_seconds": PAUSE_SECONDS})
            self.disconnect(inuse_connections=False)
        super().release(connection)

    def _connect(self, connection: Any) -> None:
        connection.on_connect()
        is_again = connection in self._seen
        self._seen.add(connection)
        # One more, for one more thread, tells nothing new.
        if self._has_counted and not is_again:
            return
        connection.send_command("INCR", connections_key())
        connection.read_response()
        self._has_counted = True


def quick() -> redis.Redis:
    """Return a client of REDIS_URL, whose commands raise redis.RedisError within about REDIS_TIMEOUT_SECONDS.

    The client is shared by the threads of the process. Its keys are made by `key`.
    """
    return _client(settings.REDIS_URL)


@lru_cache
def _client(url: str) -> redis.Redis:
    return redis.Redis(connection_pool=QuickPool.from_url(url))


def key(*parts: str) -> str:
    """Return the key in Redis of these parts: this installation's own, since others may share the Redis."""
    return ":".join([settings.REDIS_PREFIX, *parts])


def connections_key() -> str:
    """Return the key of a number that grows whenever a process connects, be it again.

    A process that could not be heard, since Redis or the network was away, connects again. So what was cached under
    another number than the present one may be old: somebody may have been unable to say that it changed.
    """
    return key("connections")
