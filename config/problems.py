"""Every answer of 4xx and 5xx below /api/ as application/problem+json (RFC 9457).

What a view raises becomes a problem in `exception_handler`; what never reaches a view (an unknown path, a body that is
too large, a bug) in `ProblemMiddleware`, or in `bad_request`. The services' refusals are listed in config/refusals.py.
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views import defaults
from rest_framework import exceptions
from rest_framework.settings import api_settings

CONTENT_TYPE = "application/problem+json"
# The client's next try after an answer 503.
RETRY_AFTER_SECONDS = 2
# Codes of fields that say more than "invalid", and so become the problem's code where there are no others.
TELLING_CODES = {"duplicate_sku", "unknown_field"}

# As RFC 9110 has them. Before 3.13, Python had the phrases of older RFCs.
PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}

logger = logging.getLogger(__name__)


def phrase(status: int) -> str:
    """Return what HTTP calls a status."""
    return PHRASES.get(status) or HTTPStatus(status).phrase


@dataclass(frozen=True)
class Problem:
    """A problem document. Its type is about:blank: `code` is what a program goes by.

    `errors` is, for refused input, messages by field, nested as the input is.
    """

    status: int
    code: str
    detail: str
    errors: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        members = {
            "type": "about:blank",
            "title": phrase(self.status),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        return members if self.errors is None else {**members, "errors": self.errors}

    def response(self) -> HttpResponse:
        body = json.dumps(self.document)
        # The middleware that sets these is not passed by all of them.
        headers = {"Content-Length": str(len(body)), "Cache-Control": "no-store", **self.headers}
        return HttpResponse(body, status=self.status, content_type=CONTENT_TYPE, headers=headers)


# Django reads as much as Content-Length says, and so would take such a body for an empty one.
LENGTH_REQUIRED = Problem(411, "length_required", "Send the body with a Content-Length.")
NOT_IN_UTF_8 = Problem(415, "unsupported_media_type", "A body is JSON in UTF-8.")
UNAVAILABLE = Problem(
    503,
    "unavailable",
    "The database does not answer. Try again soon.",
    headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
)


def too_large() -> Problem:
    return Problem(413, "too_large", f"A body has at most {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes.")


def plain(status: HTTPStatus) -> Problem:
    """Return the problem of which no more is known than its status."""
    return Problem(status, phrase(status).lower().replace(" ", "_"), status.description or phrase(status))


def invalid(errors: Any, code: str = "invalid") -> Problem:
    """Return the problem of refused input. `errors` is as in Problem; a list is about the input as a whole."""
    if isinstance(errors, list):
        errors = {api_settings.NON_FIELD_ERRORS_KEY: errors}
    return Problem(400, code, "The input is not valid; errors says where.", errors)


def common_code(codes: Any) -> str:
    """Return the code that all fields share, if it is a telling one, else "invalid"."""
    found = set(leaves(codes))
    return found.pop() if len(found) == 1 and found <= TELLING_CODES else "invalid"


def leaves(nested: Any) -> Iterator[str]:
    if isinstance(nested, dict):
        nested = list(nested.values())
    if isinstance(nested, list):
        for part in nested:
            yield from leaves(part)
    else:
        yield nested


def problem_of(error: Exception) -> Problem | None:
    """Return what an exception tells the client, or None if it is a bug."""
    # Imported late: it imports the apps.
    from config.refusals import REFUSALS

    if isinstance(error, OperationalError | InterfaceError):
        logger.warning("PostgreSQL did not answer", exc_info=error)
        return UNAVAILABLE
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if isinstance(error, exceptions.ValidationError):
        return invalid(error.detail, common_code(error.get_codes()))
    if isinstance(error, exceptions.APIException):
        challenge = getattr(error, "auth_header", None)
        headers = {"WWW-Authenticate": challenge} if challenge else {}
        if wait_seconds := getattr(error, "wait", None):
            headers["Retry-After"] = str(wait_seconds)
        return Problem(error.status_code, str(error.get_codes()), str(error.detail), headers=headers)
    return REFUSALS[type(error)](error) if type(error) in REFUSALS else None


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer for a host that is not allowed, and the like, which Django may find before ProblemMiddleware does."""
    if below_api(request):
        return plain(HTTPStatus.BAD_REQUEST).response()
    return defaults.bad_request(request, exception)


def exception_handler(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Answer for what a view raised. What is no problem is raised again by DRF, logged by Django, and made a 500."""
    problem = problem_of(error)
    return problem.response() if problem else None


class ProblemMiddleware:
    """Makes problems of what no view answered below /api/, and refuses bodies that no view may see."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not below_api(request):
            return self.get_response(request)
        problem = refused_body(request)
        response = problem.response() if problem else self.get_response(request)
        if response.status_code >= 400 and response.get("Content-Type") != CONTENT_TYPE:
            response = plain(HTTPStatus(response.status_code)).response()
        # What is one's own belongs in no cache. A view that may be cached says so itself.
        response.headers.setdefault("Cache-Control", "no-store")
        return response


def below_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/")


def refused_body(request: HttpRequest) -> Problem | None:
    """Return why the body cannot be taken, judged by its headers."""
    if request.headers.get("Transfer-Encoding"):
        return LENGTH_REQUIRED
    length = content_length(request)
    if length > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        return too_large()
    charset = (request.content_params or {}).get("charset", "utf-8")
    return NOT_IN_UTF_8 if length and charset.lower() not in {"utf-8", "utf8"} else None


def content_length(request: HttpRequest) -> int:
    try:
        return int(request.headers.get("Content-Length", 0))
    except ValueError:
        # As Django reads it: no body.
        return 0
