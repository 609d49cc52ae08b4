"""The JSON of products and receipts."""

from django.conf import settings
from rest_framework import serializers

from config.api import Money, StrictSerializer, Text, TrueOrFalse, WholeNumber
from config.describing import example
from stock.models import Movement, Product, plain


@example(sku="B001", name="Chair", price="49.90")
class NewProduct(StrictSerializer):
    """A product, to be added. The price is that of one unit."""

    sku = Text(validators=[plain], trim_whitespace=False)
    name = Text(max_length=200)
    price = Money()


@example(name="Lamp", price="12.50", active=True)
class ProductChange(StrictSerializer):
    """What is to be another; the rest stays."""

    name = Text(max_length=200, required=False)
    price = Money(required=False)
    active = TrueOrFalse(required=False)


@example(quantity=100)
class NewReceipt(StrictSerializer):
    """Units that came in."""

    quantity = WholeNumber(min_value=1, max_value=1_000_000_000)


@example(sku="A001", name="Lamp", price="12.50", currency="USD", available=100, active=True)
class ProductOut(serializers.ModelSerializer[Product]):
    price = Money(read_only=True)
    currency = serializers.SerializerMethodField()
    available = serializers.IntegerField(read_only=True)

    class Meta:
        model = Product
        fields = ["sku", "name", "price", "currency", "available", "active"]
        read_only_fields = fields

    def get_currency(self, product: Product) -> str:
        return settings.CURRENCY


@example(
    id="0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f06",
    sku="A001",
    quantity=100,
    received_at="2026-11-21T20:00:00.000000Z",
)
class ReceiptOut(serializers.ModelSerializer[Movement]):
    sku = serializers.CharField(source="product_id", read_only=True)
    received_at = serializers.DateTimeField(source="at", read_only=True)

    class Meta:
        model = Movement
        fields = ["id", "sku", "quantity", "received_at"]
        read_only_fields = fields
