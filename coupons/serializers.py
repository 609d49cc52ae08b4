"""The JSON of coupons, of requests for them, and of one's own."""

from typing import Any

from django.utils import timezone
from rest_framework import serializers

from config.api import Money, StrictSerializer, Text, WholeNumber
from config.describing import example
from coupons.models import MAX_QUANTITY, Coupon, IssuedCoupon, Request, plain


@example(
    code="SPRING-26",
    name="Spring sale",
    quantity=100,
    starts_at="2026-11-21T20:00:00Z",
    ends_at="2027-05-31T22:00:00Z",
    percent_off=10,
    minimum_total="20.00",
)
class NewCoupon(StrictSerializer):
    """A coupon, to be added. It takes off a percentage, or an amount, or nothing; its code is kept in upper case."""

    code = Text(validators=[plain], trim_whitespace=False)
    name = Text(max_length=200)
    quantity = WholeNumber(min_value=1, max_value=MAX_QUANTITY)
    starts_at = serializers.DateTimeField(required=False, allow_null=True, help_text="It can be asked for from now on.")
    ends_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="It can be asked for, and spent, before this."
    )
    percent_off = WholeNumber(required=False, min_value=1, max_value=100)
    amount_off = Money(required=False)
    minimum_total = Money(required=False, help_text="Of an order that it is spent on, before it takes off anything.")
    registered_before = serializers.DateTimeField(
        required=False, allow_null=True, help_text="Only users who registered before this get one."
    )

    def validate_code(self, code: str) -> str:
        return code.upper()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "percent_off" in attrs and "amount_off" in attrs:
            raise serializers.ValidationError({"amount_off": "A coupon takes off a percentage or an amount."})
        starts_at, ends_at = attrs.get("starts_at"), attrs.get("ends_at")
        if starts_at and ends_at and ends_at <= starts_at:
            raise serializers.ValidationError({"ends_at": "It ends after it starts."})
        return attrs


@example(
    code="WELCOME",
    name="Welcome",
    quantity=100,
    issued=0,
    starts_at=None,
    ends_at=None,
    status="ACTIVE",
)
class CouponOut(serializers.ModelSerializer[Coupon]):
    status = serializers.SerializerMethodField()

    class Meta:
        model = Coupon
        fields = ["code", "name", "quantity", "issued", "starts_at", "ends_at", "status"]
        read_only_fields = fields

    def get_status(self, coupon: Coupon) -> Coupon.Status:
        return coupon.status(timezone.now())


@example(request_id="0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f07", status="QUEUED")
class CouponRequestAccepted(serializers.ModelSerializer[Request]):
    request_id = serializers.UUIDField(source="id", read_only=True)

    class Meta:
        model = Request
        fields = ["request_id", "status"]
        read_only_fields = fields


@example(
    request_id="0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f00",
    code="WELCOME",
    status="QUEUED",
    position=1,
    created_at="2026-11-21T21:15:00.000000Z",
    finished_at=None,
)
class CouponRequestOut(serializers.ModelSerializer[Request]):
    request_id = serializers.UUIDField(source="id", read_only=True)
    position = serializers.IntegerField(
        required=False,
        min_value=1,
        help_text="About the place in the queue, while the request is in it, and among its first thousand.",
    )

    class Meta:
        model = Request
        fields = ["request_id", "code", "status", "position", "created_at", "finished_at"]
        read_only_fields = fields


@example(code="WELCOME", name="Welcome", issued_at="2026-11-21T21:15:00.000000Z", spent_on=None)
class IssuedCouponOut(serializers.ModelSerializer[IssuedCoupon]):
    code = serializers.CharField(source="coupon_id", read_only=True)
    name = serializers.CharField(source="coupon.name", read_only=True)

    class Meta:
        model = IssuedCoupon
        fields = ["code", "name", "issued_at", "spent_on"]
        read_only_fields = fields
        extra_kwargs = {"spent_on": {"help_text": "The id of the order that it was spent on."}}
