"""Products, levels and reservations in the admin. To look at: stock changes by its services."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from config.admin import ReadOnly, link
from stock.models import Level, Product, Receipt, Release, Reservation


class Availability(admin.SimpleListFilter):
    title = "availability"
    parameter_name = "available"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Available"), ("no", "Sold out")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Product]) -> QuerySet[Product]:
        if self.value() == "yes":
            return queryset & Product.objects.available()
        if self.value() == "no":
            return queryset & Product.objects.sold_out()
        return queryset


@admin.register(Product)
class ProductAdmin(ReadOnly, admin.ModelAdmin):
    columns = ("sku", "name", "price", "active", "on_hand", "reserved", "available", "updated_at")
    list_display = columns
    fields = (*columns, "created_at")
    list_filter = ["active", Availability]
    list_select_related = ["level"]
    search_fields = ["sku", "name"]

    @admin.display(ordering="level__on_hand")
    def on_hand(self, product: Product) -> int:
        return product.level.on_hand

    @admin.display(ordering="level__reserved")
    def reserved(self, product: Product) -> int:
        return product.level.reserved


@admin.register(Level)
class LevelAdmin(ReadOnly, admin.ModelAdmin):
    list_display = fields = ("product", "on_hand", "reserved", "available")
    list_filter = ["product__active"]
    list_select_related = ["product"]
    search_fields = ["product__sku", "product__name"]
    ordering = ["pk"]


@admin.register(Receipt)
class ReceiptAdmin(ReadOnly, admin.ModelAdmin):
    list_display = fields = ("received_at", "product", "quantity", "received_by")
    list_filter = ["received_at"]
    list_select_related = ["product", "received_by"]
    search_fields = ["product__sku", "product__name", "received_by__username"]


@admin.register(Reservation)
class ReservationAdmin(ReadOnly, admin.ModelAdmin):
    list_display = fields = ("id", "product", "quantity", "status", "order", "created_at", "updated_at")
    list_filter = ["status", "created_at"]
    list_select_related = ["product"]
    search_fields = ["^order_id", "product__sku", "product__name"]

    @admin.display(ordering="order_id")
    def order(self, reservation: Reservation) -> str:
        return link("orders_order", reservation.order_id, reservation.order_id)


@admin.register(Release)
class ReleaseAdmin(ReadOnly, admin.ModelAdmin):
    list_display = fields = ("order_id", "at", "order")
    list_filter = ["at"]
    search_fields = ["^order_id"]

    def order(self, release: Release) -> str:
        return link("orders_order", release.order_id, "see the order")
