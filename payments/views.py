"""One's wallet over HTTP."""

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.api import user_id
from config.describing import refuses
from config.idempotency import idempotent
from payments import serializers, services
from payments.models import Entry, Wallet


class MyWallet(APIView):
    @extend_schema(responses=serializers.WalletOut)
    def get(self, request: Request) -> Response:
        """Read one's balance."""
        return Response(serializers.WalletOut(Wallet.objects.of(user_id(request))).data)


class Entries(ListAPIView[Entry]):
    """List what went in and out of one's wallet, the newest first."""

    serializer_class = serializers.EntryOut
    # For the schema.
    queryset = Entry.objects.none()

    def get_queryset(self) -> QuerySet[Entry]:
        return Entry.objects.of(user_id(self.request)).select_related("wallet")


class MayDeposit(IsAuthenticated):
    """Staff may, and others where WALLET_SELF_DEPOSIT is on."""

    message = "Only staff makes deposits here."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return super().has_permission(request, view) and (request.user.is_staff or settings.WALLET_SELF_DEPOSIT)


class Deposits(APIView):
    permission_classes = [MayDeposit]

    @refuses("currency_mismatch")
    @extend_schema(request=serializers.Deposit, responses={201: serializers.EntryOut})
    @idempotent
    def post(self, request: Request) -> Response:
        """Pay into one's own wallet, or, as staff, into anybody's."""
        entry = services.deposit(**{"user_id": user_id(request), **serializers.Deposit.read(request)})
        return Response(serializers.EntryOut(entry).data, status=201)
