"""What drf-spectacular cannot know by itself about the API.

`AutoSchema` derives it from the views: which problems an operation may answer with, what its headers are, how strict
its input is. What it cannot derive, a view or a serializer says beside itself, see config/describing.py.
"""

from http import HTTPStatus
from itertools import groupby
from typing import Any

from django.core.validators import RegexValidator
from drf_spectacular import openapi
from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiParameter
from rest_framework import exceptions
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.serializers import ListSerializer
from rest_framework.views import APIView

from config import problems
from config.api import UNKNOWN_FIELD, Negotiation, StrictSerializer
from config.describing import SUCCESSES
from config.problems import Problem

READS_A_BODY = {"POST", "PUT", "PATCH"}
# Of parts of paths. The demo has this product, this user and this coupon.
PATH_EXAMPLES = {"sku": "A001", "username": "bob", "code": "WELCOME", "id": "0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f00"}
# Permissions that refuse nobody who has a token.
OPEN = {AllowAny, IsAuthenticated}
HEADERS = {
    "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "How to authenticate (RFC 9110).", "schema": {"type": "string"}},
}
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    # Bare, or quoted as RFC 8941 says.
    {"type": "string", "pattern": r'^([!#-~][ -~]{0,254}|"([ !#-\[\]-~]|\\["\\]){1,255}")$'},
    OpenApiParameter.HEADER,
    description="A name for this one attempt, unique to the caller. Who sends the same request with it again, within "
    "24 hours, gets the first answer again, and nothing is done twice.",
)
REPLAYED = OpenApiParameter(
    "Idempotent-Replayed",
    {"type": "string", "const": "true"},
    OpenApiParameter.HEADER,
    response=SUCCESSES,
    description="There only when this is the answer to an earlier request with the same Idempotency-Key.",
)
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


class AutoSchema(openapi.AutoSchema):
    """Documents every refusal with its codes, what idempotent calls take and tell, and that input is read strictly."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        if operation.get("description", "").rstrip(".") == operation.get("summary"):
            # It says no more.
            del operation["description"]
        for status, answer in operation["responses"].items():
            answer["description"] = answer["description"] or problems.phrase(int(status))
        if self.takes_header("If-None-Match"):
            headers = self._get_response_headers_for_code("304")
            operation["responses"]["304"] = {"description": problems.phrase(304), "headers": headers}
        refusals = sorted(self.refusals(), key=lambda problem: problem.status)
        for status, of_status in groupby(refusals, key=lambda problem: problem.status):
            operation["responses"][str(status)] = self.refusal_answer(list(of_status))
        return operation

    def get_summary(self) -> str:
        """Return the first sentence of the description."""
        return self.get_description().partition(". ")[0].partition("\n")[0].rstrip(".")

    @property
    def handler(self) -> Any:
        return getattr(self.view, self.method.lower())

    def refusals(self) -> list[Problem]:
        """Return a sample of each problem with which the operation may answer."""
        # Imported late: they import the apps.
        from config.idempotency import InFlight, InvalidKey, KeyReused
        from config.refusals import SAMPLES

        errors = self.refused_callers()
        if self.view.content_negotiation_class is Negotiation:
            errors.append(exceptions.NotAcceptable())
        if self.is_idempotent:
            errors += [InvalidKey(), InFlight(), KeyReused()]
        # A page that there is not, too, by its cursor.
        if "{" in self.path or self._get_pagination_parameters():
            errors.append(exceptions.NotFound())
        if self.view.get_throttles():
            errors.append(exceptions.Throttled(wait=30))
        found = [problems.plain(HTTPStatus.BAD_REQUEST), problems.UNAVAILABLE, *map(problem_of, errors)]
        # Whatever the method, for the headers of a body.
        found += [problems.LENGTH_REQUIRED, problems.too_large(), problems.NOT_IN_UTF_8]
        found += [SAMPLES[code] for code in getattr(self.handler, "refusals", ())]
        if self.takes_header("If-Match"):
            found.append(SAMPLES["precondition_failed"])
        if self.method in READS_A_BODY:
            found += refused_bodies()
        elif any(parameter["in"] == "query" for parameter in self._get_parameters()):
            found += [problems.invalid({"page_size": ["Write a whole number above zero."]}), unknown_field()]
        return found

    def refused_callers(self) -> list[exceptions.APIException]:
        """Return a sample of each exception that tells a caller to be somebody else."""
        # A view that overrides it looks at tokens only where one is needed.
        overridden = type(self.view).perform_authentication is not APIView.perform_authentication
        if not self.view.get_authenticators() or (overridden and not any(self.get_auth())):
            return []
        refused: list[exceptions.APIException] = [exceptions.AuthenticationFailed("The token is not valid.")]
        if any(self.get_auth()):
            refused.append(exceptions.NotAuthenticated())
        for error in refused:
            # As APIView.handle_exception sets it.
            error.auth_header = self.view.get_authenticate_header(self.view.request)  # type: ignore[attr-defined]
        if any(self.get_auth()) and {type(permission) for permission in self.view.get_permissions()} - OPEN:
            refused.append(exceptions.PermissionDenied())
        return refused

    def refusal_answer(self, refusals: list[Problem]) -> dict[str, Any]:
        """Register the answer that some refusals of one status have in common, and return a reference to it."""
        by_code = {problem.code: problem for problem in sorted(refusals, key=lambda problem: problem.code)}
        [status] = {problem.status for problem in refusals}
        self.registry.register_on_missing(PROBLEM)
        told = {"properties": {"status": {"const": int(status)}, "code": {"enum": list(by_code)}}}
        answer = ResolvedComponent(
            name="-".join(by_code),
            type=ResolvedComponent.RESPONSE,
            object=tuple(by_code),
            schema={
                "description": problems.phrase(status),
                "headers": {
                    name: {**HEADERS[name], "required": all(name in problem.headers for problem in refusals)}
                    for name in sorted({name for problem in refusals for name in problem.headers})
                },
                "content": {
                    problems.CONTENT_TYPE: {
                        "schema": {"allOf": [PROBLEM.ref, told]},
                        "examples": {code: {"value": problem.document} for code, problem in by_code.items()},
                    }
                },
            },
        )
        self.registry.register_on_missing(answer)
        return answer.ref

    @property
    def is_idempotent(self) -> bool:
        return getattr(self.handler, "is_idempotent", False)

    def takes_header(self, name: str) -> bool:
        return any(parameter["in"] == "header" and parameter["name"] == name for parameter in self._get_parameters())

    def get_override_parameters(self) -> list[Any]:
        parameters = super().get_override_parameters()
        if self.is_idempotent:
            parameters = [*parameters, IDEMPOTENCY_KEY, REPLAYED]
        if self._get_pagination_parameters() and hasattr(self.view, "filters"):
            parameters = [*parameters, self.view.filters]
        return parameters

    def _resolve_path_parameters(self, variables: list[str]) -> list[dict[str, Any]]:
        parameters = super()._resolve_path_parameters(variables)
        for parameter in parameters:
            if parameter["name"] in PATH_EXAMPLES:
                parameter["examples"] = {"Example": {"value": PATH_EXAMPLES[parameter["name"]]}}
        return parameters

    def _map_basic_serializer(self, serializer: Any, direction: str) -> dict[str, Any]:
        schema = super()._map_basic_serializer(serializer, direction)
        if isinstance(serializer, StrictSerializer):
            schema["additionalProperties"] = False
        return schema

    def _map_serializer_field(self, field: Any, direction: str, bypass_extensions: bool = False) -> Any:
        schema = super()._map_serializer_field(field, direction, bypass_extensions)
        if isinstance(field, ListSerializer):
            limits = {"minItems": "min_length", "maxItems": "max_length"}
            found = {name: getattr(field, attribute) for name, attribute in limits.items()}
            schema |= {name: limit for name, limit in found.items() if limit is not None}
        return schema


def problem_of(error: Exception) -> Problem:
    problem = problems.problem_of(error)
    assert problem
    return problem


def unknown_field() -> Problem:
    return problem_of(exceptions.ValidationError({"colour": [UNKNOWN_FIELD]}))


def refused_bodies() -> list[Problem]:
    """Return a sample of each problem with which a body may be refused when it is read."""
    return [
        problem_of(exceptions.ParseError("Not valid JSON: Expecting value: line 1 column 1 (char 0)")),
        problems.invalid(["Invalid data. Expected a dictionary, but got list."]),
        unknown_field(),
    ]


class TokenScheme(KnoxTokenScheme):
    target_class = "accounts.authentication.TokenAuthentication"
    name = "Token"


class MoneyField(OpenApiSerializerFieldExtension):
    target_class = "config.api.Money"

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        # On the way in above zero: a digit of it is.
        pattern = r"^(?=.*[1-9])[0-9]{1,10}(\.[0-9]{1,2})?$" if direction == "request" else r"^-?[0-9]+\.[0-9]{2}$"
        return {"type": "string", "pattern": pattern, "examples": ["12.50"]}


class TextField(OpenApiSerializerFieldExtension):
    """Text has no NUL, and, if it may not be blank, a character that is not a space."""

    target_class = "config.api.Text"
    match_subclasses = True

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        schema = auto_schema._map_serializer_field(self.target, direction, bypass_extensions=True)
        has_pattern = any(isinstance(validator, RegexValidator) for validator in self.target.validators)
        if not self.target.allow_blank and not has_pattern:
            trimmed = self.target.trim_whitespace
            schema["pattern"] = r"^[^\x00]*[^\s\x00-\x1f\x85][^\x00]*$" if trimmed else r"^[^\x00]+$"
        return schema
