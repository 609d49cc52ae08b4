"""POST orders/ as a Django project without an outbox has it, and the paths under which both are served.

The same authentication, validation, look-up of prices, answer, and rows of the order, its lines and its timeline, in
one transaction. What is left out is the event.
"""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction
from django.urls import path, reverse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from uuid_utils.compat import uuid7

from config.api import user_id
from config.urls import urlpatterns as orderbox
from orders.models import Line, Order, Step
from orders.serializers import NewOrder, OrderOut
from stock.models import Product
from stock.services import UnknownSku


class BareOrders(APIView):
    @transaction.atomic
    def post(self, request: Request) -> Response:
        """Place an order, and tell nobody."""
        items: dict[str, int] = NewOrder.read(request)["items"]
        products: dict[str, Any] = Product.objects.active().in_bulk(list(items))
        if unknown := items.keys() - products.keys():
            raise UnknownSku(unknown)
        now = timezone.now()
        order = Order(
            customer_id=user_id(request),
            total=sum((products[sku].price * quantity for sku, quantity in items.items()), Decimal("0.00")),
            currency=settings.CURRENCY,
            created_at=now,
            updated_at=now,
            deadline_at=now + timedelta(seconds=settings.ORDER_STOCK_TIMEOUT_SECONDS),
        )
        order.save(force_insert=True)
        Line.objects.bulk_create(
            Line(order=order, sku=sku, name=products[sku].name, quantity=quantity, unit_price=products[sku].price)
            for sku, quantity in items.items()
        )
        Step.objects.create(
            order=order,
            event_type="order.created",
            event_id=uuid7(),
            at=now,
            details={"total": str(order.total), "currency": order.currency},
        )
        return Response(OrderOut(order).data, status=202, headers={"Location": reverse("order", args=[order.pk])})


urlpatterns = [*orderbox, path("bare/orders/", BareOrders.as_view())]
