"""Wallets, their ledger and payments in the admin. Money moves by the services alone."""

from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.safestring import SafeString

from config.admin import Act, ActForm, Refused, ShopAdmin, Table, list_link, row_link
from outbox.admin.pages import ReadOnly
from payments import services
from payments.models import Entry, Payment, Wallet

# Entries that a wallet's page shows.
ENTRIES_SHOWN = 50


class DepositForm(ActForm):
    amount = forms.DecimalField(min_value=Decimal("0.01"), max_digits=12, decimal_places=2)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["amount"].help_text = f"In {settings.CURRENCY}."


def deposit(request: HttpRequest, wallet: Wallet, *, amount: Decimal) -> str:
    try:
        services.deposit(user_id=wallet.pk, amount=amount)
    except services.WrongCurrency:
        raise Refused(f"This wallet holds {wallet.currency}, and the shop takes {settings.CURRENCY}.") from None
    return f"Deposited {amount:.2f} {settings.CURRENCY} for {wallet.user}."


@admin.register(Wallet)
class WalletAdmin(ReadOnly, ShopAdmin):
    list_display = ("user", "balance", "currency")
    fields = ("owner", "balance", "currency")
    list_select_related = ["user"]
    search_fields = ["user__username", "user__email"]
    ordering = ["user__username"]
    acts = [
        Act("deposit", "Deposit", "payments.deposit_wallet", deposit, form=DepositForm, hint="It cannot be undone.")
    ]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Wallet | None:
        """Return a user's wallet; one that is not saved where none was needed yet."""
        if (wallet := super().get_object(request, object_id, from_field)) is None:
            with suppress(ValidationError):
                if user := get_user_model().objects.filter(pk=object_id).first():
                    return Wallet.objects.of(user.pk)
        return wallet

    @admin.display(description="user")
    def owner(self, wallet: Wallet) -> SafeString:
        return row_link("accounts_user", wallet.pk, wallet.user)

    def named(self, wallet: Wallet) -> str:
        return f"{wallet.user}: {wallet}"

    def tables(self, request: HttpRequest, wallet: Wallet) -> Iterator[Table]:
        if request.user.has_perm("payments.view_entry"):
            newest = Entry.objects.of(wallet.pk).order_by("-created_at", "-id")
            rows = [
                (
                    entry.created_at,
                    entry.kind,
                    f"{entry.amount:+}",
                    entry.order_id and row_link("orders_order", entry.order_id, entry.order_id),
                )
                for entry in newest[:ENTRIES_SHOWN]
            ]
            note = list_link("payments_entry", "All entries", wallet=wallet.pk)
            yield Table("Newest entries", ["At", "Kind", "Amount", "Order"], rows, note=note, empty="None.")


@admin.register(Entry)
class EntryAdmin(ReadOnly, ShopAdmin):
    list_display = fields = ("created_at", "user", "kind", "amount", "currency", "order")
    list_filter = ["kind", "created_at"]
    list_select_related = ["wallet__user"]
    search_fields = ["wallet__user__username", "wallet__user__email"]
    search_ids = ["order_id"]

    @admin.display(ordering="wallet__user__username")
    def user(self, entry: Entry) -> SafeString:
        return row_link("payments_wallet", entry.wallet_id, entry.wallet.user)

    def currency(self, entry: Entry) -> str:
        return entry.wallet.currency

    @admin.display(ordering="order_id")
    def order(self, entry: Entry) -> SafeString | None:
        return row_link("orders_order", entry.order_id, entry.order_id) if entry.order_id else None


@admin.register(Payment)
class PaymentAdmin(ReadOnly, ShopAdmin):
    list_display = (
        "order_id",
        "user",
        "status",
        "amount",
        "captured",
        "refunded",
        "currency",
        "created_at",
        "updated_at",
    )
    fields = (
        "order",
        "wallet",
        "status",
        ("amount", "captured", "refunded", "currency"),
        "provider",
        ("due_at", "attempts"),
        "error",
        ("created_at", "updated_at"),
    )
    list_filter = ["status", "created_at"]
    list_select_related = ["user"]
    search_fields = ["user__username", "user__email"]
    search_ids = ["pk"]

    def order(self, payment: Payment) -> SafeString:
        return row_link("orders_order", payment.order_id, payment.order_id)

    def wallet(self, payment: Payment) -> SafeString:
        return row_link("payments_wallet", payment.user_id, payment.user)
