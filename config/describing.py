"""What views and serializers say of themselves for the schema, where config/schema.py cannot derive it."""

from collections.abc import Callable
from typing import Any, TypeVar

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema_serializer

Handler = TypeVar("Handler", bound=Callable[..., Any])

SUCCESSES = [200, 201, 202, 204]
ETAG = OpenApiParameter(
    "ETag",
    {"type": "string", "pattern": '^"[!#-~]+"$'},
    OpenApiParameter.HEADER,
    required=True,
    response=[200, 304],
    description="Names what is answered (RFC 9110). It changes with each change.",
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match",
    str,
    OpenApiParameter.HEADER,
    description="ETags of what the caller has: where it is right still, the answer is 304 (RFC 9110).",
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="ETags of what may be changed: where it is another by now, the answer is 412 (RFC 9110).",
)


def refuses(*codes: str) -> Callable[[Handler], Handler]:
    """Tell with which codes of config/refusals.py a view's method may answer."""

    def mark(handler: Handler) -> Handler:
        handler.refusals = codes  # type: ignore[attr-defined]
        return handler

    return mark


def example(**members: Any) -> Callable[[type], type]:
    """Give a serializer an example of its JSON."""
    return extend_schema_serializer(examples=[OpenApiExample("Example", members, status_codes=SUCCESSES)])
