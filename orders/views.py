"""One's orders over HTTP. Somebody else's are not found."""

from uuid import UUID

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.api import Nothing, user_id
from config.describing import refuses
from config.idempotency import idempotent
from orders import serializers, services
from orders.models import Order

LOCATION = OpenApiParameter(
    "Location", str, OpenApiParameter.HEADER, required=True, response=[202], description="The order's path."
)


class Orders(ListAPIView[Order]):
    serializer_class = serializers.OrderOut
    filters = serializers.OrderFilter
    # For the schema.
    queryset = Order.objects.none()

    def get_queryset(self) -> QuerySet[Order]:
        # As a dictionary, or what is empty would count as not given.
        wanted = self.filters(data=self.request.query_params.dict())
        wanted.is_valid(raise_exception=True)
        return Order.objects.of(user_id(self.request)).filter(**wanted.validated_data).with_lines()

    def get(self, request: Request) -> Response:
        """List one's orders, the newest first."""
        return super().get(request)

    @refuses(
        "duplicate_sku",
        "unknown_sku",
        "unknown_coupon",
        "below_minimum_total",
        "coupon_spent",
        "coupon_disabled",
        "coupon_ended",
    )
    @extend_schema(request=serializers.NewOrder, responses={202: serializers.OrderOut}, parameters=[LOCATION])
    @idempotent
    def post(self, request: Request) -> Response:
        """Place an order at today's prices, less what a coupon takes off.

        What becomes of it, its status and its timeline tell.
        """
        order = services.place(customer_id=user_id(request), **serializers.NewOrder.read(request))
        location = reverse("order", args=[order.pk])
        return Response(serializers.OrderOut(order).data, status=202, headers={"Location": location})


class OneOrder(RetrieveAPIView[Order]):
    """Read an order."""

    serializer_class = serializers.OrderOut
    queryset = Order.objects.none()

    def get_queryset(self) -> QuerySet[Order]:
        return Order.objects.of(user_id(self.request)).with_lines()


class Timeline(APIView):
    @extend_schema(responses=serializers.Timeline)
    def get(self, request: Request, pk: UUID) -> Response:
        """Read what happened to an order, the oldest first."""
        order = get_object_or_404(Order.objects.of(user_id(request)).prefetch_related("steps"), pk=pk)
        return Response(serializers.Timeline({"steps": order.steps.all()}).data)


class Cancel(APIView):
    @refuses("already_cancelled", "cancel_window_closed")
    @extend_schema(request=Nothing, responses={202: serializers.OrderOut})
    def post(self, request: Request, pk: UUID) -> Response:
        """Cancel an order. What it held goes back to stock, what was paid to the wallet."""
        Nothing.read(request)
        get_object_or_404(Order.objects.of(user_id(request)), pk=pk)
        return Response(serializers.OrderOut(services.cancel(order_id=pk)).data, status=202)
