"""The JSON of orders, and what a list of them can be filtered by."""

from typing import Any

from rest_framework import serializers

from config.api import Money, StrictSerializer, Text, WholeNumber
from config.describing import example
from orders.models import MAX_LINES, MAX_QUANTITY, Line, Order, Step


class Item(StrictSerializer):
    """A line of a new order."""

    sku = Text(max_length=64, trim_whitespace=False)
    quantity = WholeNumber(min_value=1, max_value=MAX_QUANTITY)


@example(items=[{"sku": "A001", "quantity": 2}])
class NewOrder(StrictSerializer):
    """Each SKU stands in one line. The coupon is one's own, in upper or lower case."""

    items = Item(many=True, min_length=1, max_length=MAX_LINES)  # type: ignore[call-arg]
    coupon_code = Text(max_length=64, trim_whitespace=False, required=False)

    def validate_items(self, items: list[dict[str, Any]]) -> dict[str, int]:
        """Return units by SKU."""
        quantities = {item["sku"]: item["quantity"] for item in items}
        if len(quantities) < len(items):
            raise serializers.ValidationError("A SKU stands in more than one line.", code="duplicate_sku")
        return quantities

    def validate_coupon_code(self, code: str) -> str:
        return code.upper()


class OrderFilter(serializers.Serializer[Any]):
    """Query parameters. The sources are Django's look-ups."""

    status = serializers.ChoiceField(Order.Status.choices, required=False)
    created_after = serializers.DateTimeField(source="created_at__gte", required=False)
    created_before = serializers.DateTimeField(source="created_at__lt", required=False)


class LineOut(serializers.ModelSerializer[Line]):
    unit_price = Money(read_only=True)

    class Meta:
        model = Line
        fields = ["sku", "name", "quantity", "unit_price"]
        read_only_fields = fields


@example(
    id="0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f00",
    status="PENDING",
    cancel_reason=None,
    total="25.00",
    discount="0.00",
    currency="USD",
    items=[{"sku": "A001", "name": "Lamp", "quantity": 2, "unit_price": "12.50"}],
    created_at="2026-11-21T21:15:00.000000Z",
    updated_at="2026-11-21T21:15:00.000000Z",
)
class OrderOut(serializers.ModelSerializer[Order]):
    total = Money(read_only=True)
    discount = Money(read_only=True)
    items = LineOut(source="lines", many=True, read_only=True)

    class Meta:
        model = Order
        fields = [
            "id",
            "status",
            "cancel_reason",
            "total",
            "discount",
            "currency",
            "items",
            "created_at",
            "updated_at",
        ]
        read_only_fields = fields


class StepOut(serializers.ModelSerializer[Step]):
    class Meta:
        model = Step
        fields = ["event_type", "event_id", "at", "details"]
        read_only_fields = fields


@example(
    steps=[
        {
            "event_type": "order.created",
            "event_id": "0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f04",
            "at": "2026-11-21T21:15:00.000000Z",
            "details": {"total": "25.00", "currency": "USD"},
        }
    ]
)
class Timeline(serializers.Serializer[Any]):
    steps = StepOut(many=True)
