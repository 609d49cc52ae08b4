"""Coupons, requests for them, and who has one, in the admin. All of it changes by the services alone."""

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.safestring import SafeString

from config.admin import Act, ActForm, Refused, ShopAdmin, Table, list_link, row_link
from coupons import services
from coupons.models import MAX_QUANTITY, Coupon, IssuedCoupon, Request
from outbox.admin.pages import ReadOnly

DISABLE_HINT = "Nobody gets one, and nobody can spend one, until it is enabled again."


class CouponForm(forms.ModelForm):
    class Meta:
        model = Coupon
        fields = [
            "code",
            "name",
            "quantity",
            "starts_at",
            "ends_at",
            "percent_off",
            "amount_off",
            "minimum_total",
            "registered_before",
        ]
        help_texts = {
            "code": "Letters, digits, - and _. It is kept in upper case.",
            "ends_at": "It can be asked for, and spent, before this.",
            "amount_off": "Instead of a percentage.",
            "minimum_total": "Of an order that it is spent on, before it takes off anything.",
            "registered_before": "Only users who registered before this get one.",
        }

    def clean_code(self) -> str:
        return self.cleaned_data["code"].upper()


class QuantityForm(ActForm):
    quantity = forms.IntegerField(
        min_value=1, max_value=MAX_QUANTITY, help_text="Of all, with those that are issued. It cannot be lowered."
    )


def raise_quantity(request: HttpRequest, coupon: Coupon, *, quantity: int) -> str:
    try:
        services.raise_quantity(code=coupon.pk, quantity=quantity)
    except services.NotRaised:
        raise Refused(f"There are as many of {coupon.pk} already, or more.") from None
    return f"Raised the quantity to {quantity}."


def disable(request: HttpRequest, coupon: Coupon) -> str:
    services.set_enabled(code=coupon.pk, is_enabled=False)
    return "Disabled the coupon."


def enable(request: HttpRequest, coupon: Coupon) -> str:
    services.set_enabled(code=coupon.pk, is_enabled=True)
    return "Enabled the coupon."


@admin.register(Coupon)
class CouponAdmin(ShopAdmin):
    form = CouponForm
    list_display = ["code", "name", "state", "quantity", "issued", "starts_at", "ends_at", "created_at"]
    list_filter = ["is_enabled", "created_at"]
    search_fields = ["code", "name"]
    ordering = ["-created_at"]
    acts = [
        Act("raise", "Raise the quantity", "coupons.raise_coupon", raise_quantity, form=QuantityForm),
        Act(
            "disable",
            "Disable",
            "coupons.disable_coupon",
            disable,
            hint=DISABLE_HINT,
            offered=lambda coupon: coupon.is_enabled,
        ),
        Act(
            "enable",
            "Enable",
            "coupons.disable_coupon",
            enable,
            offered=lambda coupon: not coupon.is_enabled,
        ),
    ]

    @admin.display(description="status")
    def state(self, coupon: Coupon) -> str:
        return coupon.status(timezone.now()).label

    def get_fields(self, request: HttpRequest, obj: Coupon | None = None) -> Any:
        fields = CouponForm.Meta.fields
        return fields if obj is None else [*fields, "state", "issued", "version", "created_at"]

    def get_readonly_fields(self, request: HttpRequest, obj: Coupon | None = None) -> Any:
        return self.get_fields(request, obj) if obj else []

    def tables(self, request: HttpRequest, coupon: Coupon) -> Iterator[Table]:
        if not request.user.has_perm("coupons.view_request"):
            return
        now = timezone.now()
        requests = Request.objects.filter(code=coupon.pk)
        outcomes = [
            (status.label, list_link("coupons_request", count, code=coupon.pk, status__exact=status))
            for status, count in requests.by_outcome().items()
        ]
        yield Table("Requests", ["Outcome", "Requests"], outcomes, empty="Nobody has asked.")
        waiting = [
            (
                Request.Queue(queue).label,
                list_link("coupons_request", count, code=coupon.pk, status__exact="QUEUED", queue__exact=queue),
                f"{(now - oldest).total_seconds():.0f} s",
            )
            for queue, count, oldest in requests.waiting()
        ]
        yield Table("Queues", ["Queue", "Waiting", "The oldest since"], waiting, empty="Nobody waits.")

    def save_model(self, request: HttpRequest, obj: Coupon, form: Any, change: bool) -> None:
        services.create(**form.cleaned_data)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except services.DuplicateCode as error:
            # Somebody else added it since the form was checked.
            self.message_user(request, f"There is a coupon {error.code} already.", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def has_change_permission(self, request: HttpRequest, obj: Coupon | None = None) -> bool:
        # Users were told what it is.
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Coupon | None = None) -> bool:
        # Requests name it. "Disable" ends it.
        return False


def decide(request: HttpRequest, asked: Request) -> str:
    services.decide(request_ids=[asked.pk])
    asked.refresh_from_db()
    return f"Decided: {asked.get_status_display()}."


def give_up(request: HttpRequest, asked: Request) -> str:
    services.give_up(request_ids=[asked.pk])
    asked.refresh_from_db()
    return f"Given up: {asked.get_status_display()}."


@admin.register(Request)
class RequestAdmin(ReadOnly, ShopAdmin):
    acts = [
        Act(
            "decide",
            "Decide now",
            "coupons.decide_request",
            decide,
            hint="After all, or before those in front of it: by what there is now. It cannot be undone.",
            offered=lambda asked: asked.status in (Request.Status.QUEUED, Request.Status.SYSTEM_ERROR),
        ),
        Act(
            "give_up",
            "Give up",
            "coupons.decide_request",
            give_up,
            hint="For one whose event or entry is lost: the user is told that it failed, and may ask again.",
            offered=lambda asked: asked.status == Request.Status.QUEUED,
        ),
    ]
    list_display = fields = ("id", "code", "user", "queue", "status", "stream_id", "created_at", "finished_at")
    list_filter = ["status", "queue", "created_at"]
    list_select_related = ["user"]
    search_fields = ["code", "user__username", "user__email"]
    search_ids = ["pk"]
    search_help_text = "The beginning of a request's id, a coupon's code, or a user's name or e-mail address."


@admin.register(IssuedCoupon)
class IssuedCouponAdmin(ReadOnly, ShopAdmin):
    list_display = fields = ("coupon", "user", "request", "issued_at", "order", "spent_at")
    list_filter = [("spent_on", admin.EmptyFieldListFilter), "issued_at"]
    list_select_related = ["coupon", "user", "request"]
    search_fields = ["coupon__code", "user__username", "user__email"]
    search_ids = ["spent_on", "request"]

    @admin.display(description="spent on", ordering="spent_on")
    def order(self, issued: IssuedCoupon) -> SafeString | None:
        return row_link("orders_order", issued.spent_on, issued.spent_on) if issued.spent_on else None
