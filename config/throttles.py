"""How often one may ask, counted in Redis. While Redis is away nobody is refused.

A product's page that comes from Redis is neither counted nor refused: to count it would take Redis as long as the page.
"""

from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, cast

from django.conf import settings
from django.http import HttpRequest
from redis import RedisError
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from config import redis

if TYPE_CHECKING:
    # At run time it imports this file, by the settings.
    from rest_framework.views import APIView

MINUTE_SECONDS = 60
# Who has one address of IPv6 has all that begin with the same 64 bits (RFC 6177).
IPV6_PREFIX_BITS = 64
# One step for Redis, so that no count stays without an end. Returns the count, and how many ms it has to live.
ADD = """
    local count = redis.call('INCR', KEYS[1])
    if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
    return {count, redis.call('PTTL', KEYS[1])}
"""


# A count whose time is over must not begin anew without an end.
TAKE_BACK = """
    if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('DECR', KEYS[1]) <= 0 then redis.call('DEL', KEYS[1]) end
"""


@dataclass(frozen=True)
class Counter:
    """Counts something for a number of seconds from the first time on. A limit of 0 is none."""

    name: str
    limit: int
    seconds: int

    def add(self) -> float | None:
        """Count one more. Return how many seconds to wait, if that is above the limit."""
        try:
            count, left_ms = redis.quick().register_script(ADD)(keys=[self._key], args=[self.seconds * 1000])
        except RedisError:
            return None
        # In its last moment Redis says 0; to wait for no time is not to wait.
        return max(left_ms, 1) / 1000 if 0 < self.limit < count else None

    def take_back(self) -> None:
        """Count one less."""
        # What stays ends by itself.
        with suppress(RedisError):
            redis.quick().register_script(TAKE_BACK)(keys=[self._key])

    def forget(self) -> None:
        with suppress(RedisError):
            redis.quick().delete(self._key)

    @property
    def _key(self) -> str:
        return redis.key("throttle", self.name)


class Throttle(BaseThrottle):
    """Refuses the requests of a user, or of an address without one, that are too many in a minute."""

    _wait_seconds: float | None = None

    def allow_request(self, request: Request, view: "APIView") -> bool:
        if request.user.is_authenticated:
            name, limit = f"user:{request.user.pk}", settings.THROTTLE_USER_PER_MINUTE
        else:
            name, limit = f"address:{address(request)}", settings.THROTTLE_ADDRESS_PER_MINUTE
        self._wait_seconds = Counter(name, limit, MINUTE_SECONDS).add() if limit else None
        return self._wait_seconds is None

    def wait(self) -> float | None:
        return self._wait_seconds


def address(request: Request | HttpRequest) -> str:
    """Return where a request comes from: as far as NUM_PROXIES says, by X-Forwarded-For."""
    text = BaseThrottle().get_ident(cast(Request, request)) or ""
    try:
        found = ip_address(text)
    except ValueError:
        return text
    if isinstance(found, IPv6Address):
        # A dual-stack socket shows an address of IPv4 in this form.
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ip_network((int(found), IPV6_PREFIX_BITS), strict=False))
    return text
