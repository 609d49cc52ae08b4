"""Products, their levels and movements in the admin. All of it changes by the services alone."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.safestring import SafeString

from config.admin import Act, ActForm, ShopAdmin, Table, list_link, row_link
from outbox.admin.pages import ReadOnly
from stock import services
from stock.models import Level, Movement, Product, Release, Reservation

# Movements that a product's page shows.
MOVEMENTS_SHOWN = 50


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


class ProductForm(forms.ModelForm):
    price = forms.DecimalField(min_value=Decimal("0.01"), max_digits=12, decimal_places=2)

    class Meta:
        model = Product
        fields = ["sku", "name", "price", "active"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            # What the person changed is told by what they saw, not by what somebody else made of it meanwhile.
            field.show_hidden_initial = True
        if "price" in self.fields:
            self.fields["price"].help_text = f"Of one unit, in {settings.CURRENCY}. Placed orders keep theirs."


class GoodsForm(ActForm):
    quantity = forms.IntegerField(min_value=1, max_value=1_000_000_000, help_text="Units, at once available.")


def receive(request: HttpRequest, product: Product, *, quantity: int) -> str:
    services.receive(sku=product.pk, quantity=quantity, received_by=request.user.pk)
    return f"Received {quantity} units of {product.pk}."


@admin.register(Product)
class ProductAdmin(ShopAdmin):
    form = ProductForm
    list_display = ["sku", "name", "price", "active", "on_hand", "reserved", "available", "updated_at"]
    list_filter = ["active", Availability]
    list_select_related = ["level"]
    search_fields = ["sku", "name"]
    readonly_fields = ["on_hand", "reserved_units", "available", "updated_at", "created_at"]
    acts = [Act("receive", "Goods received", "stock.receive_product", receive, form=GoodsForm)]

    @admin.display(ordering="level__on_hand")
    def on_hand(self, product: Product) -> int:
        return product.level.on_hand

    @admin.display(ordering="level__reserved")
    def reserved(self, product: Product) -> int:
        return product.level.reserved

    @admin.display(description="reserved")
    def reserved_units(self, product: Product) -> SafeString:
        return list_link("stock_reservation", product.level.reserved, product=product.pk, status__exact="HELD")

    def get_fields(self, request: HttpRequest, obj: Product | None = None) -> Any:
        return ["sku", "name", "price", *(["active", *self.readonly_fields] if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Product | None = None) -> Any:
        return ["sku", *self.readonly_fields] if obj else []

    def tables(self, request: HttpRequest, product: Product) -> Iterator[Table]:
        if request.user.has_perm("stock.view_movement"):
            newest = Movement.objects.filter(product=product).order_by("-id").select_related("by")
            rows = [
                (
                    movement.at,
                    movement.kind,
                    movement.quantity,
                    movement.order_id and row_link("orders_order", movement.order_id, movement.order_id),
                    movement.by,
                )
                for movement in newest[:MOVEMENTS_SHOWN]
            ]
            note = list_link("stock_movement", "All movements", product=product.pk)
            yield Table("Newest movements", ["At", "Kind", "Quantity", "Order", "By"], rows, note=note, empty="None.")

    def save_model(self, request: HttpRequest, obj: Product, form: Any, change: bool) -> None:
        given = {field: form.cleaned_data[field] for field in form.changed_data}
        if not change:
            services.add_product(**given)
        elif given:
            services.update_product(sku=obj.pk, **given)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except services.DuplicateSku as error:
            # Somebody else added it since the form was checked.
            self.message_user(request, f"There is a product {error.sku} already.", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def has_delete_permission(self, request: HttpRequest, obj: Product | None = None) -> bool:
        # Orders and movements name it. "Active" ends its sale.
        return False


@admin.register(Level)
class LevelAdmin(ReadOnly, ShopAdmin):
    list_display = fields = ("product", "on_hand", "reserved", "available")
    list_filter = ["product__active"]
    list_select_related = ["product"]
    search_fields = ["product__sku", "product__name"]
    ordering = ["pk"]


@admin.register(Movement)
class MovementAdmin(ReadOnly, ShopAdmin):
    list_display = fields = ("at", "kind", "product", "quantity", "order", "by")
    list_filter = ["kind", "at"]
    list_select_related = ["product", "by"]
    search_fields = ["product__sku", "product__name", "by__username"]
    search_ids = ["order_id"]

    @admin.display(ordering="order_id")
    def order(self, movement: Movement) -> SafeString | None:
        return row_link("orders_order", movement.order_id, movement.order_id) if movement.order_id else None


@admin.register(Reservation)
class ReservationAdmin(ReadOnly, ShopAdmin):
    list_display = fields = ("id", "product", "quantity", "status", "order", "created_at", "updated_at")
    list_filter = ["status", "created_at"]
    list_select_related = ["product"]
    search_fields = ["product__sku", "product__name"]
    search_ids = ["order_id"]

    @admin.display(ordering="order_id")
    def order(self, reservation: Reservation) -> SafeString:
        return row_link("orders_order", reservation.order_id, reservation.order_id)


@admin.register(Release)
class ReleaseAdmin(ReadOnly, ShopAdmin):
    list_display = fields = ("order_id", "at", "order")
    list_filter = ["at"]
    search_ids = ["order_id"]

    def order(self, release: Release) -> SafeString:
        return row_link("orders_order", release.order_id, "see the order")
