"""Products over HTTP: everybody reads them, staff writes."""

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.permissions import SAFE_METHODS, IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.api import NewestFirst, user_id
from stock import serializers, services
from stock.models import Product


class StaffWrites(IsAdminUser):
    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.method in SAFE_METHODS or super().has_permission(request, view)


class BySku(NewestFirst):
    ordering = "sku"


@extend_schema_view(get=extend_schema(auth=[]))
class Products(ListAPIView[Product]):
    """List products, by SKU. Those that are not active cannot be ordered."""

    permission_classes = [StaffWrites]
    pagination_class = BySku
    queryset = Product.objects.with_levels()
    serializer_class = serializers.ProductOut

    @extend_schema(request=serializers.NewProduct, responses={201: serializers.ProductOut})
    def post(self, request: Request) -> Response:
        """Add a product, with nothing in stock (staff)."""
        product = services.add_product(**serializers.NewProduct.read(request))
        return Response(serializers.ProductOut(product).data, status=201)


@extend_schema_view(get=extend_schema(auth=[]))
class OneProduct(RetrieveAPIView[Product]):
    """Read a product."""

    permission_classes = [StaffWrites]
    queryset = Product.objects.with_levels()
    serializer_class = serializers.ProductOut
    lookup_field = "sku"

    @extend_schema(request=serializers.ProductChange, responses=serializers.ProductOut)
    def patch(self, request: Request, sku: str) -> Response:
        """Change a product (staff). Orders that were placed keep their price."""
        change = serializers.ProductChange.read(request)
        get_object_or_404(Product, pk=sku)
        return Response(serializers.ProductOut(services.update_product(sku=sku, **change)).data)


class Receipts(APIView):
    permission_classes = [IsAdminUser]

    @extend_schema(request=serializers.NewReceipt, responses={201: serializers.ReceiptOut})
    def post(self, request: Request, sku: str) -> Response:
        """Take in units, at once available (staff)."""
        quantity = serializers.NewReceipt.read(request)["quantity"]
        get_object_or_404(Product, pk=sku)
        receipt = services.receive(sku=sku, quantity=quantity, received_by=user_id(request))
        return Response(serializers.ReceiptOut(receipt).data, status=201)
