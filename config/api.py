"""What all parts of the API read and write alike: bodies, fields and pages."""

import json
import re
from collections.abc import Container, Mapping
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast
from uuid import UUID

from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import DataError
from django.utils.http import parse_header_parameters
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, NotFound, ParseError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.pagination import CursorPagination
from rest_framework.parsers import JSONParser
from rest_framework.request import Request

if TYPE_CHECKING:
    # At run time it imports this file, by the settings.
    from rest_framework.views import APIView


def user_id(request: Request) -> UUID:
    """Return the id of who sent a request to a view that only users reach."""
    return cast(UUID, request.user.pk)


class Negotiation(DefaultContentNegotiation):
    """DRF's, for which a type in the header Accept that cannot be read is one that there is not."""

    def get_accept_list(self, request: Request) -> list[str]:
        return [text for text in super().get_accept_list(request) if is_header_value(text)]


def is_header_value(text: str) -> bool:
    """Return whether Django can read the parameters of a header (it cannot read some in the form of RFC 2231)."""
    try:
        parse_header_parameters(text)
    except (ValueError, TypeError):
        return False
    return True


class StrictJSONParser(JSONParser):
    """Reads JSON that every reader understands alike (RFC 8259, RFC 7493).

    That is UTF-8 without lone surrogates, names that do not repeat, and numbers that are finite.
    """

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            document = json.loads(
                stream.read().decode(),
                object_pairs_hook=object_without_repeats,
                parse_float=finite_float,
                parse_constant=refuse_constant,
            )
            # Python reads an escaped lone surrogate, but no text with one can be written.
            json.dumps(document, ensure_ascii=False).encode()
        except RecursionError:
            raise ParseError("Not valid JSON: it is nested too deep.") from None
        except ValueError as error:
            raise ParseError(f"Not valid JSON: {error}") from error
        return document


def object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def finite_float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return number


def refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


UNKNOWN_FIELD = ErrorDetail("There is no such field.", code="unknown_field")


class StrictSerializer(serializers.Serializer[Any]):
    """A serializer of input that refuses what it does not know, with the code `unknown_field`."""

    def to_internal_value(self, data: Any) -> Any:
        errors = {}
        if isinstance(data, Mapping):
            known = {name for name, field in self.fields.items() if not field.read_only}
            errors = {name: [UNKNOWN_FIELD] for name in data if name not in known}
        try:
            values = super().to_internal_value(data)
        except serializers.ValidationError as error:
            raise serializers.ValidationError({**errors, **cast(dict[str, Any], error.detail)}) from error
        if errors:
            raise serializers.ValidationError(errors)
        return values

    @classmethod
    def read(cls, request: Request) -> dict[str, Any]:
        """Return the validated body of a request, or raise DRF's ValidationError."""
        serializer = cls(data=request.data, context={"request": request})
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data


class Nothing(StrictSerializer):
    """The body of a POST that takes none."""


class Text(serializers.CharField):
    """A JSON string, and nothing that could be made one."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Choice(serializers.ChoiceField):
    """A JSON string that is one of some."""

    default_error_messages = {"not_a_string": serializers.CharField.default_error_messages["invalid"]}

    def to_internal_value(self, data: Any) -> str:
        # DRF's own message shows what was sent, for which that may be nested too deep.
        if not isinstance(data, str):
            self.fail("not_a_string")
        return super().to_internal_value(data)


class WholeNumber(serializers.IntegerField):
    """A JSON number without a fraction: not true, not "3", not 3.0."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return data


class TrueOrFalse(serializers.BooleanField):
    """A JSON boolean: not "yes", not 1."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class Money(serializers.Field[Decimal, str, str, Any]):
    """An amount of money: a string with two decimals, read with up to two and above zero."""

    default_error_messages = {
        "invalid": "Write an amount as a string of up to ten digits, and up to two decimals after a point.",
        "too_small": "An amount is above zero.",
    }

    def to_internal_value(self, data: Any) -> Decimal:
        if not isinstance(data, str) or not re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,2})?", data):
            self.fail("invalid")
        amount = Decimal(data)
        if not amount:
            self.fail("too_small")
        return amount

    def to_representation(self, value: Decimal) -> str:
        return f"{value:.2f}"


def refuse_parameters(request: Request, *, known: Container[str]) -> None:
    """Refuse query parameters that mean nothing: a misspelt filter would find too much.

    Raises:
        ValidationError: with the code `unknown_field`.
    """
    if unknown := sorted(name for name in request.query_params if name not in known):
        raise serializers.ValidationError({name: [UNKNOWN_FIELD] for name in unknown})


class NewestFirst(CursorPagination):
    """Pages of a list, in the order of creation, the newest first: {results, next, previous}."""

    ordering: str | tuple[str, ...] = ("-created_at", "-id")
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size: int = 200
    # Set by DRF.
    request: Request

    def paginate_queryset(self, queryset: Any, request: Request, view: "APIView | None" = None) -> list[Any] | None:
        filters = getattr(view, "filters", None)
        refuse_parameters(
            request,
            known={self.cursor_query_param, self.page_size_query_param, *(filters().fields if filters else ())},
        )
        try:
            return super().paginate_queryset(queryset, request, view)
        except (DjangoValidationError, ValueError, DataError):
            # DRF reads a cursor without asking whether its position is one of the column's values.
            raise NotFound(self.invalid_cursor_message) from None

    def get_page_size(self, request: Request) -> int:
        text = request.query_params.get(self.page_size_query_param, str(self.page_size))
        if not re.fullmatch(r"0*[1-9][0-9]*", text):
            raise serializers.ValidationError({self.page_size_query_param: ["Write a whole number above zero."]})
        # A Decimal, since Python reads no int of very many digits.
        return int(min(Decimal(text), Decimal(self.max_page_size)))

    def get_schema_operation_parameters(self, view: "APIView") -> list[dict[str, Any]]:
        cursor, page_size = super().get_schema_operation_parameters(view)
        page_size["schema"] = {"type": "integer", "minimum": 1, "default": self.page_size}
        page_size["description"] = f"How many results a page has. More than {self.max_page_size} count as that."
        return [cursor, page_size]

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        # DRF writes the `nullable` of OpenAPI 3.0, which 3.1 does not know. Of `example` drf-spectacular makes one of
        # the whole page.
        link = {"type": ["string", "null"], "format": "uri", "example": None}
        return {
            "type": "object",
            "properties": {"results": schema, "next": link, "previous": link},
            "required": ["results", "next", "previous"],
        }
