"""Marks in Redis of who cannot get a coupon: it is sold out, or the user has it, or waits for it.

They last for a moment, and spare PostgreSQL most of those who come too late. Without them PostgreSQL says the same.

A mark is set after the commit of what it tells, and taken away before the commit of what ends that. So one may still be
under way when it is to go, from a process that is late. Against that stands a bar, which outlasts it: for a coupon, the
least version of its quantity that may be called sold out; for a request, that it has ended. Where the transaction is
rolled back after all, the bar only lets PostgreSQL be asked for a while.

Where Redis could not be told, or lost what it was told, a mark is wrong for MARK_SECONDS at most.
"""

import logging
import time
from collections.abc import Sequence
from uuid import UUID

import redis

from config.redis import key, quick
from coupons.models import Coupon, Request

# How long a mark lasts, from when PostgreSQL was seen to say so: not from when Redis is told.
MARK_SECONDS = 15
# How long a mark of that kind is kept from being set.
BAR_SECONDS = 60

# The least version is never lowered, not even by a command that was under way for long.
REOPEN = """
local version = math.max(tonumber(ARGV[1]), tonumber(redis.call('GET', KEYS[1]) or 0))
redis.call('SET', KEYS[1], string.format('%d', version), 'EX', ARGV[2])
"""

MARK_SOLD_OUT = """
local mark, least = unpack(KEYS)
local version, milliseconds = unpack(ARGV)
local known = math.max(tonumber(redis.call('GET', least) or 0), tonumber(redis.call('GET', mark) or 0))
if tonumber(version) >= known then
    redis.call('SET', mark, version, 'PX', milliseconds)
end
"""

# Keys come in pairs: a user's mark, and the bar of the request that the mark would name.
MARK_ASKED = """
for i = 2, #ARGV do
    local mark, ended = KEYS[2 * i - 3], KEYS[2 * i - 2]
    if redis.call('EXISTS', ended) == 0 then
        redis.call('SET', mark, ARGV[i], 'PX', ARGV[1])
    end
end
"""

# The mark may be of another request of the user's, which has not ended.
END = """
for i = 2, #ARGV do
    local mark, ended = KEYS[2 * i - 3], KEYS[2 * i - 2]
    redis.call('SET', ended, '', 'EX', ARGV[1])
    if redis.call('GET', mark) == ARGV[i] then
        redis.call('DEL', mark)
    end
end
"""

logger = logging.getLogger(__name__)


def find(code: str, user_id: UUID) -> Request.Status | None:
    """Return why a user cannot get a coupon now. None: Redis does not know of a reason."""
    try:
        asked, sold_out, least = quick().mget(_asked(code, user_id), key("coupons", "sold-out", code), _least(code))
    except redis.RedisError:
        return None
    if asked is not None:
        return Request.Status.DUPLICATE_REQUEST
    if sold_out is not None and int(sold_out) >= int(least or 0):
        return Request.Status.OUT_OF_STOCK
    return None


def mark_sold_out(coupon: Coupon, since: float) -> None:
    """Mark a coupon as sold out, as was committed and read at `since` by time.monotonic(), or later."""
    if milliseconds := _left(since):
        _run(MARK_SOLD_OUT, [key("coupons", "sold-out", coupon.pk), _least(coupon.pk)], [coupon.version, milliseconds])


def reopen(coupon: Coupon) -> None:
    """Let only this version of the coupon's quantity, or a higher one, be called sold out."""
    _run(REOPEN, [_least(coupon.pk)], [coupon.version, BAR_SECONDS])


def mark_asked(requests: Sequence[Request], since: float) -> None:
    """Mark users whose requests wait or succeeded, as was committed and read at `since`, or later."""
    if requests and (milliseconds := _left(since)):
        _run(MARK_ASKED, _pairs(requests), [milliseconds, *_ids(requests)])


def end(requests: Sequence[Request]) -> None:
    """Let users ask again whose requests come to nothing with the transaction that is open."""
    if requests:
        _run(END, _pairs(requests), [BAR_SECONDS, *_ids(requests)])


def _left(since: float) -> int:
    """Return for how many milliseconds a mark is to last."""
    return max(int(1000 * (MARK_SECONDS - (time.monotonic() - since))), 0)


def _run(script: str, keys: list[str], arguments: list[str | int]) -> None:
    try:
        quick().register_script(script)(keys=keys, args=arguments)
    except redis.RedisError as error:
        logger.debug("Redis was not told of a coupon", exc_info=error)


def _pairs(requests: Sequence[Request]) -> list[str]:
    pairs = [(_asked(r.code, r.user_id), key("coupons", "ended", str(r.pk))) for r in requests]
    return [name for pair in pairs for name in pair]


def _ids(requests: Sequence[Request]) -> list[str]:
    return [str(request.pk) for request in requests]


def _asked(code: str, user_id: UUID) -> str:
    return key("coupons", "asked", code, str(user_id))


def _least(code: str) -> str:
    return key("coupons", "least", code)
