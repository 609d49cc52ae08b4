"""Wallets, their ledger and payments in the admin. To look at: money moves by its services."""

from django.contrib import admin

from config.admin import ReadOnly, link
from payments.models import Entry, Payment, Wallet


@admin.register(Wallet)
class WalletAdmin(ReadOnly, admin.ModelAdmin):
    list_display = fields = ("user", "balance", "currency")
    list_filter = ["currency"]
    list_select_related = ["user"]
    search_fields = ["user__username", "user__email"]
    ordering = ["user__username"]


@admin.register(Entry)
class EntryAdmin(ReadOnly, admin.ModelAdmin):
    list_display = fields = ("created_at", "user", "kind", "amount", "currency", "order")
    list_filter = ["kind", "created_at"]
    list_select_related = ["wallet__user"]
    search_fields = ["^order_id", "wallet__user__username", "wallet__user__email"]

    @admin.display(ordering="wallet__user__username")
    def user(self, entry: Entry) -> str:
        return link("payments_wallet", entry.wallet_id, entry.wallet.user)

    def currency(self, entry: Entry) -> str:
        return entry.wallet.currency

    @admin.display(ordering="order_id")
    def order(self, entry: Entry) -> str | None:
        return link("orders_order", entry.order_id, entry.order_id) if entry.order_id else None


@admin.register(Payment)
class PaymentAdmin(ReadOnly, admin.ModelAdmin):
    columns = ("order_id", "user", "status", "amount", "captured", "refunded", "created_at", "updated_at")
    list_display = columns
    fields = (*columns, "order")
    list_filter = ["status", "created_at"]
    list_select_related = ["user"]
    search_fields = ["^order_id", "user__username", "user__email"]

    def order(self, payment: Payment) -> str:
        return link("orders_order", payment.order_id, "see the order")
