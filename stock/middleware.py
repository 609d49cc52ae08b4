"""A product's page from Redis, before sessions, routes and DRF, which would be the larger part of the work.

In settings: MIDDLEWARE = […, "stock.middleware.ProductPageMiddleware", …], before all that such an answer does without.
"""

import re
from collections.abc import Callable
from functools import cache

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, resolve

from stock import pages
from stock.urls import SKU
from stock.views import cacheable

PRODUCT = "/api/v1/products/{}/"
PATH = re.compile(PRODUCT.format(SKU))
REFUSABLE = ("CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_IF_MATCH")


class ProductPageMiddleware:
    """Answers reads of products that Redis has a right page of. All other requests are for the views."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._page(request) or self._get_response(request)

    def _page(self, request: HttpRequest) -> HttpResponseBase | None:
        if request.method not in ("GET", "HEAD"):
            return None
        # What may be refused is for the views.
        if any(map(request.META.get, REFUSABLE)):
            return None
        path = PATH.fullmatch(request.path_info)
        if path is None:
            return None
        # Raises for a host that is not ours.
        request.get_host()
        body = pages.find(path["sku"])
        if body is None:
            return None
        # For the metrics, by route.
        request.resolver_match = any_product()
        return cacheable(request, body)


@cache
def any_product() -> ResolverMatch:
    return resolve(PRODUCT.format("A"))
