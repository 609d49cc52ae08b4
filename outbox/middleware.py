"""The trace of a request. In settings: MIDDLEWARE = ["outbox.middleware.TraceMiddleware", …], before all others."""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from outbox import context

# Under which request.META keeps the trace.
TRACE = "outbox.trace"


class TraceMiddleware:
    """Lets what a request publishes and logs belong to the trace of its header `traceparent`, or to a new one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with context.tracing(request.headers.get("traceparent")) as trace:
            # Django tells of answers of 4xx and 5xx after the last middleware has returned.
            request.META[TRACE] = trace
            return self.get_response(request)
