"""Orders in the admin, with all that happened to them. To look at: orders change by their services."""

from django.contrib import admin
from django.utils.html import format_html_join

from config.admin import ReadOnly, link
from orders.models import Line, Order, Step

# Declared exceptions: an order's page shows what the other apps hold for it.
from payments.models import Payment
from stock.models import Reservation


class LineInline(ReadOnly, admin.TabularInline):
    model = Line
    fields = ["sku", "name", "quantity", "unit_price"]


class StepInline(ReadOnly, admin.TabularInline):
    model = Step
    verbose_name_plural = "timeline"
    fields = ["at", "event_type", "details", "event_id"]


@admin.register(Order)
class OrderAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["id", "customer", "status", "cancel_reason", "total", "currency", "created_at", "deadline_at"]
    list_filter = ["status", "cancel_reason", "created_at"]
    list_select_related = ["customer"]
    search_fields = ["^id", "customer__username", "customer__email"]
    fields = [
        "id",
        "customer",
        ("status", "cancel_reason"),
        ("total", "discount", "currency"),
        "payment",
        "reservations",
        ("created_at", "updated_at"),
        ("completed_at", "deadline_at"),
    ]
    inlines = [LineInline, StepInline]

    def payment(self, order: Order) -> str | None:
        payment = Payment.objects.filter(pk=order.pk).first()
        if payment is None:
            return None
        amounts = f"{payment.status}: captured {payment.captured}, refunded {payment.refunded}"
        return link("payments_payment", payment.pk, amounts)

    def reservations(self, order: Order) -> str:
        reservations = Reservation.objects.for_orders([order.pk]).order_by("product_id")
        return format_html_join(
            ", ",
            "{}",
            ((link("stock_reservation", r.pk, f"{r.quantity} × {r.product_id} {r.status}"),) for r in reservations),
        )


@admin.register(Line)
class LineAdmin(ReadOnly, admin.ModelAdmin):
    list_display = fields = ("id", "sku", "name", "quantity", "unit_price", "order")
    list_filter = ["order__status", "order__created_at"]
    list_select_related = ["order"]
    search_fields = ["sku", "name", "^order__id"]
    ordering = ["-id"]


@admin.register(Step)
class StepAdmin(ReadOnly, admin.ModelAdmin):
    list_display = fields = ("at", "event_type", "order", "details", "event_id")
    list_filter = ["event_type", "at"]
    list_select_related = ["order"]
    search_fields = ["^event_id", "^order__id"]
    ordering = ["-id"]
