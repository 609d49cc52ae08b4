"""What drf-spectacular cannot know by itself about the API."""

from typing import Any

from drf_spectacular import openapi
from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.plumbing import ResolvedComponent

from config.problems import CONTENT_TYPE

PROBLEM = ResolvedComponent(
    name="Problem",
    type=ResolvedComponent.SCHEMA,
    object="Problem",
    schema={
        "type": "object",
        "description": "RFC 9457. `code` is stable. `errors`, for input: messages by field, nested as the input is.",
        "properties": {
            "type": {"type": "string", "const": "about:blank"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string"},
            "errors": {"type": "object", "additionalProperties": True},
        },
        "required": ["type", "title", "status", "detail", "code"],
    },
)
CONTENT = {CONTENT_TYPE: {"schema": PROBLEM.ref}}
RETRY_AFTER = {"Retry-After": {"description": "With 503, in seconds.", "schema": {"type": "integer"}}}


class AutoSchema(openapi.AutoSchema):
    """Adds the problem document to every operation."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is not None:
            self.registry.register_on_missing(PROBLEM)
            operation["responses"] |= {
                "4XX": {"description": "Refused, and nothing changed.", "content": CONTENT},
                "5XX": {"description": "503: PostgreSQL is away.", "content": CONTENT, "headers": RETRY_AFTER},
            }
        return operation


class TokenScheme(KnoxTokenScheme):
    target_class = "accounts.authentication.TokenAuthentication"
    name = "Token"


class MoneyField(OpenApiSerializerFieldExtension):
    target_class = "config.api.Money"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        pattern = r"^[0-9]{1,10}(\.[0-9]{1,2})?$" if direction == "request" else r"^-?[0-9]+\.[0-9]{2}$"
        return {"type": "string", "pattern": pattern, "examples": ["12.50"]}
