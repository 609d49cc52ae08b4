"""Product pages kept in Redis. They are right after each change; where Redis is of no help, PostgreSQL is asked.

Each change of a product or its level gives the level a higher version. Shortly before its transaction commits, that
version becomes the floor of the page: a page of a lower version is not shown from then on, whatever becomes of the
transaction, and the first reader who finds the new version writes the page anew. So nothing has to be done after the
commit, and a crash there leaves no old page.

Where Redis could not be told of a change, old pages end when the process that could not tell it connects again, or
another one does: see `config.redis.connections_key`. At the latest they end after PAGE_SECONDS.

The list of products is not kept: every order changes a level in it, so a page of it would be old at once, and to say so
every order's transaction would write to one key.
"""

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import redis
from django.conf import settings

from config.redis import connections_key, key, quick

# How long a page is kept, and so how old one is at most that nobody could be told of.
PAGE_SECONDS = 5
# Longer than a page is kept and a transaction takes from the mark to its commit. After one that is rolled back,
# readers ask PostgreSQL for so long, unless the product changes again.
FLOOR_SECONDS = 60
# One reader at a time reads a page from PostgreSQL. If that one dies, the next one does after this time.
LEASE_SECONDS = 2
# The others wait so long for the page, and then ask PostgreSQL too.
WAIT_SECONDS = 0.5
LOOK_AGAIN_SECONDS = 0.005

# A floor is never lowered, not even by a command that was under way for long.
MARK = """
for i, floor in ipairs(KEYS) do
    local version = math.max(tonumber(ARGV[i + 1]), tonumber(redis.call('GET', floor) or 0))
    redis.call('SET', floor, string.format('%d', version), 'EX', ARGV[1])
end
"""

# A reader that took longer than the lease may have read an old page.
END_LEASE = """
local lease, floor, page = unpack(KEYS)
local token, version, value, seconds = unpack(ARGV)
if redis.call('GET', lease) ~= token then
    return
end
redis.call('DEL', lease)
if value ~= '' and tonumber(version) >= tonumber(redis.call('GET', floor) or 0) then
    redis.call('SET', page, value, 'EX', seconds)
end
"""

logger = logging.getLogger(__name__)


def mark_changed(versions: Mapping[str, int]) -> None:
    """Let no older pages be shown than these versions, by SKU. Called when the transaction has little left to do."""
    if not versions or not settings.PRODUCT_CACHE:
        return
    floors = [_key("floor", sku) for sku in versions]
    try:
        quick().register_script(MARK)(keys=floors, args=[FLOOR_SECONDS, *versions.values()])
    except redis.RedisError as error:
        logger.debug("Redis was not told of a change", exc_info=error)


def find(sku: str) -> bytes | None:
    """Return a product's page, if Redis has one that is right at this moment."""
    if not settings.PRODUCT_CACHE:
        return None
    try:
        return _look(sku)[1]
    except redis.RedisError:
        return None


def read(sku: str, load: Callable[[], tuple[int, bytes]]) -> bytes:
    """Return a product's page, which `load` reads from PostgreSQL with its version where Redis does not have it.

    Of many who ask at once only one calls `load`, as long as that one is quick. Raises what `load` raises.
    """
    if not settings.PRODUCT_CACHE:
        return load()[1]
    token = secrets.token_hex(8)
    give_up_at = time.monotonic() + WAIT_SECONDS
    try:
        while not quick().set(_key("lease", sku), token, nx=True, ex=LEASE_SECONDS):
            if time.monotonic() > give_up_at:
                return load()[1]
            time.sleep(LOOK_AGAIN_SECONDS)
            if (page := _look(sku)[1]) is not None:
                return page
        # The one who had the lease before may have read it.
        connections, page = _look(sku)
    except redis.RedisError:
        return load()[1]
    version, value = 0, b""
    try:
        if page is None:
            version, page = load()
            value = b"%s %d\n%s" % (connections, version, page)
    finally:
        _end_lease(sku, token, version, value)
    return page


def _look(sku: str) -> tuple[bytes, bytes | None]:
    """Return the number of connections, and the page if it is right at this moment."""
    found: list[Any] = quick().mget(connections_key(), _key("floor", sku), _key("page", sku))
    connections, floor, page = found[0] or b"0", int(found[1] or 0), found[2]
    if page is None:
        return connections, None
    head, body = page.split(b"\n", 1)
    connections_then, version = head.split()
    is_right = connections_then == connections and int(version) >= floor
    return connections, body if is_right else None


def _end_lease(sku: str, token: str, version: int, value: bytes) -> None:
    """Let others read the page, and keep it unless it is empty or older than its floor."""
    try:
        quick().register_script(END_LEASE)(
            keys=[_key(kind, sku) for kind in ("lease", "floor", "page")], args=[token, version, value, PAGE_SECONDS]
        )
    except redis.RedisError as error:
        logger.debug("Redis did not take a page", exc_info=error)


def _key(kind: str, sku: str) -> str:
    return key("product", kind, sku)
