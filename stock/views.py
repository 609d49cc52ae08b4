"""Products over HTTP: everybody reads them, staff writes.

What is read has an ETag. A cache may keep it, but asks each time whether it is still right (RFC 9111), so that a change
is seen at once. A single product comes from Redis where that has it (stock/pages.py), and then by stock/middleware.py.
"""

from hashlib import blake2b
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.cache import get_conditional_response
from django.utils.http import parse_etags
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.generics import GenericAPIView
from rest_framework.mixins import ListModelMixin
from rest_framework.permissions import SAFE_METHODS, IsAdminUser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.api import Negotiation, NewestFirst, user_id
from config.describing import ETAG, IF_MATCH, IF_NONE_MATCH, refuses
from config.idempotency import idempotent
from stock import pages, serializers, services
from stock.models import Product

JSON = "application/json"


def body_of(product: Product) -> bytes:
    """Return a product's page."""
    return JSONRenderer().render(serializers.ProductOut(product).data)


def etag_of(body: bytes) -> str:
    return f'"{blake2b(body, digest_size=16).hexdigest()}"'


def cacheable(request: HttpRequest, body: bytes) -> HttpResponseBase:
    """Answer with a page, or with 304 where the client has it, or with 412 where it wants another one (RFC 9110)."""
    headers = {"ETag": etag_of(body), "Cache-Control": "public, no-cache", "Content-Length": str(len(body))}
    response = HttpResponse(body, content_type=JSON, headers=headers)
    # Without a date of the last change it means nothing (RFC 9110, 13.1.4), but Django would answer 412.
    request.META.pop("HTTP_IF_UNMODIFIED_SINCE", None)
    return get_conditional_response(request, headers["ETag"], response=response) or response


class AlwaysJSON(Negotiation):
    """Answers in JSON whatever is accepted, as RFC 9110, 12.4.1 lets a server, since so does a page from Redis."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], JSON


class StaffWrites(IsAdminUser):
    def has_permission(self, request: Request, view: APIView) -> bool:
        # A method that the view does not have is refused as that, to everybody alike.
        has_method = request.method in view.allowed_methods
        return not has_method or request.method in SAFE_METHODS or super().has_permission(request, view)


class PublicReads(APIView):
    """Everybody reads, and gets the same whoever they are, so that their token is not looked at. Staff writes."""

    permission_classes = [StaffWrites]
    content_negotiation_class = AlwaysJSON

    def get_authenticators(self) -> list[Any]:
        is_read = self.request is not None and self.request.method in SAFE_METHODS
        return [] if is_read else super().get_authenticators()


class BySku(NewestFirst):
    ordering = "sku"


@extend_schema_view(get=extend_schema(auth=[], parameters=[IF_NONE_MATCH, IF_MATCH, ETAG]))
class Products(PublicReads, ListModelMixin, GenericAPIView[Product]):
    pagination_class = BySku
    queryset = Product.objects.with_levels()
    serializer_class = serializers.ProductOut

    def get(self, request: Request) -> HttpResponseBase:
        """List products, by SKU. Those that are not active cannot be ordered."""
        return cacheable(request._request, JSONRenderer().render(self.list(request).data))

    @refuses("duplicate_sku")
    @extend_schema(request=serializers.NewProduct, responses={201: serializers.ProductOut})
    @idempotent
    def post(self, request: Request) -> Response:
        """Add a product, with nothing in stock (staff)."""
        product = services.add_product(**serializers.NewProduct.read(request))
        return Response(serializers.ProductOut(product).data, status=201)


@extend_schema_view(get=extend_schema(auth=[], parameters=[IF_NONE_MATCH, IF_MATCH, ETAG]))
class OneProduct(PublicReads, GenericAPIView[Product]):
    queryset = Product.objects.with_levels()
    serializer_class = serializers.ProductOut
    lookup_field = "sku"

    def get(self, request: Request, sku: str) -> HttpResponseBase:
        """Read a product."""

        def load() -> tuple[int, bytes]:
            product = self.get_object()
            return product.level.version, body_of(product)

        return cacheable(request._request, pages.read(sku, load))

    @extend_schema(request=serializers.ProductChange, responses=serializers.ProductOut, parameters=[IF_MATCH, ETAG])
    def patch(self, request: Request, sku: str) -> HttpResponse:
        """Change a product (staff). Orders that were placed keep their price."""
        change = serializers.ProductChange.read(request)
        product = self.get_object()
        version = None
        if (wanted := request.headers.get("If-Match")) is not None and wanted.strip() != "*":
            if etag_of(body_of(product)) not in parse_etags(wanted):
                raise services.Changed
            version = product.level.version
        body = body_of(services.update_product(sku=sku, version=version, **change))
        return HttpResponse(body, content_type=JSON, headers={"ETag": etag_of(body)})


class Receipts(APIView):
    permission_classes = [IsAdminUser]

    @extend_schema(request=serializers.NewReceipt, responses={201: serializers.ReceiptOut})
    @idempotent
    def post(self, request: Request, sku: str) -> Response:
        """Take in units, at once available (staff)."""
        quantity = serializers.NewReceipt.read(request)["quantity"]
        get_object_or_404(Product, pk=sku)
        receipt = services.receive(sku=sku, quantity=quantity, received_by=user_id(request))
        return Response(serializers.ReceiptOut(receipt).data, status=201)
