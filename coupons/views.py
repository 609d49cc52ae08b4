"""Coupons over HTTP: users see them and ask for them, staff adds them. Somebody else's requests are not found."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.permissions import IsAdminUser, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.api import NewestFirst, Nothing, user_id
from config.describing import refuses
from config.idempotency import idempotent
from coupons import models, serializers, services
from coupons.models import Coupon, IssuedCoupon

LOCATION = OpenApiParameter(
    "Location", str, OpenApiParameter.HEADER, required=True, response=[202], description="The request's path."
)


class NewestCoupons(NewestFirst):
    ordering = ("-created_at", "-code")


class LatestIssued(NewestFirst):
    ordering = ("-issued_at", "-id")


class Coupons(ListAPIView[Coupon]):
    pagination_class = NewestCoupons
    serializer_class = serializers.CouponOut
    queryset = Coupon.objects.all()

    def get_permissions(self) -> list[Any]:
        is_post = self.request is not None and self.request.method == "POST"
        return [IsAdminUser() if is_post else IsAuthenticated()]

    def get(self, request: Request) -> Response:
        """List all coupons, the newest first."""
        return super().get(request)

    @refuses("duplicate_code")
    @extend_schema(request=serializers.NewCoupon, responses={201: serializers.CouponOut})
    @idempotent
    def post(self, request: Request) -> Response:
        """Add a coupon (staff)."""
        coupon = services.create(**serializers.NewCoupon.read(request))
        return Response(serializers.CouponOut(coupon).data, status=201)


class OneCoupon(APIView):
    @extend_schema(responses=serializers.CouponOut)
    def get(self, request: Request, code: str) -> Response:
        """Read a coupon."""
        return Response(serializers.CouponOut(get_object_or_404(Coupon, pk=code.upper())).data)


class Issue(APIView):
    @refuses("out_of_stock", "duplicate_request")
    @extend_schema(request=Nothing, responses={202: serializers.CouponRequestAccepted}, parameters=[LOCATION])
    @idempotent
    def post(self, request: Request, code: str) -> Response:
        """Ask for a coupon. The first who ask get one; the request tells what became of it."""
        Nothing.read(request)
        try:
            asked = services.ask(user_id=user_id(request), code=code.upper())
        except Coupon.DoesNotExist:
            raise Http404 from None
        location = reverse("coupon-request", args=[asked.pk])
        return Response(serializers.CouponRequestAccepted(asked).data, status=202, headers={"Location": location})


class OneRequest(APIView):
    @extend_schema(responses=serializers.CouponRequestOut)
    def get(self, request: Request, pk: UUID) -> Response:
        """Read what became of a request for a coupon."""
        asked = get_object_or_404(models.Request.objects.of(user_id(request)), pk=pk)
        shown = dict(serializers.CouponRequestOut(asked).data)
        if asked.status == models.Request.Status.QUEUED:
            position = models.Request.objects.position_of(asked)
            shown |= {"position": position} if position else {}
        return Response(shown)


class MyCoupons(ListAPIView[IssuedCoupon]):
    """List one's own coupons, the newest first."""

    pagination_class = LatestIssued
    serializer_class = serializers.IssuedCouponOut
    # For the schema.
    queryset = IssuedCoupon.objects.none()

    def get_queryset(self) -> QuerySet[IssuedCoupon]:
        return IssuedCoupon.objects.of(user_id(self.request)).with_coupons()
