"""The JSON of wallets and their entries."""

from uuid import UUID

from django.contrib.auth import get_user_model
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied

from config.api import Money, StrictSerializer, Text
from config.describing import example
from payments.models import Entry, Wallet


@example(amount="100.00")
class Deposit(StrictSerializer):
    """Into one's own wallet, or, by staff, into that of `username`."""

    amount = Money()
    username = Text(source="user_id", max_length=150, required=False)

    def validate_username(self, username: str) -> UUID:
        """Return the id of whose wallet it is."""
        caller = self.context["request"].user
        if username == caller.username:
            return caller.pk
        if not caller.is_staff:
            raise PermissionDenied("Only staff pays into somebody else's wallet.")
        user = get_user_model().objects.filter(username=username).first()
        if user is None:
            raise serializers.ValidationError("There is no such user.")
        return user.pk


@example(balance="100.00", currency="USD")
class WalletOut(serializers.ModelSerializer[Wallet]):
    balance = Money(read_only=True)

    class Meta:
        model = Wallet
        fields = ["balance", "currency"]
        read_only_fields = fields


@example(
    id="0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f05",
    kind="DEPOSIT",
    amount="100.00",
    currency="USD",
    order_id=None,
    created_at="2026-11-21T21:00:00.000000Z",
)
class EntryOut(serializers.ModelSerializer[Entry]):
    amount = Money(read_only=True)
    currency = serializers.CharField(source="wallet.currency", read_only=True)

    class Meta:
        model = Entry
        fields = ["id", "kind", "amount", "currency", "order_id", "created_at"]
        read_only_fields = fields
