"""The JSON of products and receipts."""

from django.conf import settings
from django.core.validators import RegexValidator
from rest_framework import serializers

from config.api import Money, StrictSerializer, Text, TrueOrFalse, WholeNumber
from stock.models import Product, Receipt

# What needs no escape in a path.
plain = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", "Write up to 64 letters A to Z, digits, '.', '_' and '-', no mark first."
)


class NewProduct(StrictSerializer):
    """A product, to be added. The price is that of one unit."""

    sku = Text(validators=[plain], trim_whitespace=False)
    name = Text(max_length=200)
    price = Money()


class ProductChange(StrictSerializer):
    """What is to be another; the rest stays."""

    name = Text(max_length=200, required=False)
    price = Money(required=False)
    active = TrueOrFalse(required=False)


class NewReceipt(StrictSerializer):
    """Units that came in."""

    quantity = WholeNumber(min_value=1, max_value=1_000_000_000)


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


class ReceiptOut(serializers.ModelSerializer[Receipt]):
    sku = serializers.CharField(source="product_id", read_only=True)

    class Meta:
        model = Receipt
        fields = ["id", "sku", "quantity", "received_at"]
        read_only_fields = fields
