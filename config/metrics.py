"""Metrics of the web, by route. Served on METRICS_PORT by gunicorn's first process: gunicorn.conf.py."""

import time
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("http_requests", "Requests that were answered", ["method", "route", "status"])
REQUEST_SECONDS = Histogram("http_request_seconds", "Time to answer a request", ["method", "route"])
IN_PROGRESS = Gauge("http_requests_in_progress", "Requests that are being answered", multiprocess_mode="livesum")

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class MetricsMiddleware:
    """Counts and times requests. What a client may choose, paths and unknown methods, is no label: it has no end."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        began = time.perf_counter()
        with IN_PROGRESS.track_inprogress():
            response = self._get_response(request)
        method = request.method if request.method in METHODS else "other"
        match = request.resolver_match
        # Neither a view nor a refusal on the way to one: a static file, or a path that there is not.
        route = f"/{match.route}" if match is not None else "none"
        REQUESTS.labels(method, route, response.status_code).inc()
        REQUEST_SECONDS.labels(method, route).observe(time.perf_counter() - began)
        return response
