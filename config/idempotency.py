"""Idempotency-Key: what is asked a second time under a key is not done again, but answered as it was the first time.

After draft-ietf-httpapi-idempotency-key-header. An answer of 2xx is stored in the transaction of what it tells of, so
that both are there or neither. Redis only keeps most duplicates away from PostgreSQL's lock: without it all is right.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import wraps
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.http import HttpResponse
from django.utils import timezone
from django.utils.crypto import salted_hmac
from redis import RedisError
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from config import redis
from config.models import IdempotencyKey

HEADER = "Idempotency-Key"
MAX_LENGTH = 255
# A string of RFC 8941, or the same without its quotes.
QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
BARE = re.compile(r"[!#-~][ -~]*")
# For how long an answer can be had again.
RETENTION = timedelta(hours=24)
# What a client needs of an answer beside its body.
KEPT_HEADERS = ("Location",)
# For how long a process that died keeps duplicates away from the lock, which PostgreSQL has freed at once.
GUARD_SECONDS = 10
RETRY_AFTER_SECONDS = 1

# A view's method.
Handler = Callable[..., Any]


class InvalidKey(APIException):
    status_code = 400
    default_code = "invalid_idempotency_key"
    default_detail = f"{HEADER} is 1 to {MAX_LENGTH} printable ASCII characters, bare or in double quotes."


class KeyReused(APIException):
    status_code = 422
    default_code = "idempotency_key_reused"
    default_detail = "Another body was sent under this key. Take a new key for a new request."


class InFlight(APIException):
    status_code = 409
    default_code = "idempotency_in_flight"
    default_detail = "A request with this key is being answered. Send it again to get that answer."
    wait = RETRY_AFTER_SECONDS


def idempotent(handler: Handler) -> Handler:
    """Let the POST of a view be sent again, by whoever sent it, with the same Idempotency-Key.

    Comes after throttles and permissions, and before the serializers. Without the header nothing is different.

    Raises:
        InvalidKey: the header is no key.
        KeyReused: the key stands for another body.
        InFlight: the same request is being answered.
    """

    @wraps(handler)
    def post(view: Any, request: Request, *args: Any, **kwargs: Any) -> Any:
        key = key_of(request)
        who = sender(request) if key else None
        if who is None:
            return handler(view, request, *args, **kwargs)
        digest = hashlib.sha256(canonical([*who, request.method, request.path, key])).digest()
        scope = UUID(bytes=digest[:16])
        fingerprint = salted_hmac(__name__, canonical(request.data), algorithm="sha256").hexdigest()
        return once(scope, fingerprint, lambda: handler(view, request, *args, **kwargs))

    # For the schema.
    post.is_idempotent = True  # type: ignore[attr-defined]
    return post


def key_of(request: Request) -> str | None:
    """Return the key of a request, without quotes; None if it has none."""
    text = request.headers.get(HEADER)
    if text is None:
        return None
    text = text.strip(" \t")
    if quoted := QUOTED.fullmatch(text):
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    elif BARE.fullmatch(text):
        key = text
    else:
        raise InvalidKey
    if not 1 <= len(key) <= MAX_LENGTH:
        raise InvalidKey
    return key


def sender(request: Request) -> tuple[str, str] | None:
    """Return who sends a request: the user, or who somebody wants to be when they register; None if nobody can say."""
    if request.user.is_authenticated:
        return "user", str(request.user.pk)
    username = request.data.get("username") if isinstance(request.data, dict) else None
    return ("name", username) if isinstance(username, str) else None


def canonical(document: Any) -> bytes:
    """Return JSON in the one form in which equal documents are equal."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def once(scope: UUID, fingerprint: str, handle: Callable[[], Any]) -> Any:
    """Answer a request, by its stored answer if there is one. A 2xx is stored, in the transaction of its effects."""
    with guarded(scope) as is_free:
        if is_free:
            with transaction.atomic():
                if locked(scope):
                    return stored(scope, fingerprint) or handle_and_store(scope, fingerprint, handle)
    # Another one has it, or had it until just now.
    if answer := stored(scope, fingerprint):
        return answer
    raise InFlight


def handle_and_store(scope: UUID, fingerprint: str, handle: Callable[[], Any]) -> Any:
    response = handle()
    if not 200 <= response.status_code < 300:
        return response
    row = IdempotencyKey(
        scope=scope,
        fingerprint=fingerprint,
        status=response.status_code,
        headers={name: response[name] for name in KEPT_HEADERS if name in response},
        body=JSONRenderer().render(response.data),
        created_at=timezone.now(),
    )
    # What is there already is too old to be replayed.
    IdempotencyKey.objects.bulk_create(
        [row],
        update_conflicts=True,
        unique_fields=["scope"],
        update_fields=["fingerprint", "status", "headers", "body", "created_at"],
    )
    return answer_of(row)


def stored(scope: UUID, fingerprint: str) -> HttpResponse | None:
    """Return the answer that was given before, if there is one."""
    row = IdempotencyKey.objects.stored_since(timezone.now() - RETENTION, scope=scope)
    if row is None:
        return None
    if row.fingerprint != fingerprint:
        raise KeyReused
    answer = answer_of(row)
    answer["Idempotent-Replayed"] = "true"
    return answer


def answer_of(row: IdempotencyKey) -> HttpResponse:
    answer = HttpResponse(bytes(row.body), status=row.status, content_type="application/json", headers=row.headers)
    if not row.body:
        # What is not there has no type.
        del answer["Content-Type"]
    return answer


def locked(scope: UUID) -> bool:
    """Take the scope's lock until the end of the transaction; return whether it was free. Does not wait."""
    number = int.from_bytes(scope.bytes[:8], signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [number])
        (is_free,) = cursor.fetchone()
    return bool(is_free)


@contextmanager
def guarded(scope: UUID) -> Iterator[bool]:
    """Mark in Redis that the scope is being worked at; give whether nobody else had marked it.

    Without Redis it gives True: then PostgreSQL's lock alone decides.
    """
    try:
        guard = redis.quick().lock(redis.key("idempotency", str(scope)), timeout=GUARD_SECONDS, blocking=False)
        is_free = guard.acquire()
    except RedisError:
        yield True
        return
    try:
        yield is_free
    finally:
        if is_free:
            # If Redis went away meanwhile, the mark goes by itself.
            with suppress(RedisError):
                guard.release()
