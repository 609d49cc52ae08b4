"""One's notifications over HTTP."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.api import NewestFirst, Nothing, user_id
from notifications import services
from notifications.models import Notification
from notifications.serializers import NotificationOut


class UnreadFirst(NewestFirst):
    """Pages of one's notifications, with the number of those unread beside them."""

    ordering = "-place"

    def get_paginated_response(self, data: Any) -> Response:
        response = super().get_paginated_response(data)
        response.data["unread"] = Notification.objects.inbox(user_id(self.request)).unread().count()
        return response

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        page = super().get_paginated_response_schema(schema)
        page["properties"]["unread"] = {"type": "integer", "example": 1}
        page["required"].append("unread")
        return page


class Notifications(ListAPIView[Notification]):
    """List one's notifications: the unread first, then the newest."""

    pagination_class = UnreadFirst
    serializer_class = NotificationOut
    # For the schema.
    queryset = Notification.objects.none()

    def get_queryset(self) -> QuerySet[Notification]:
        return Notification.objects.inbox(user_id(self.request))


class Read(APIView):
    @extend_schema(request=Nothing, responses={204: None})
    def post(self, request: Request, pk: UUID) -> Response:
        """Mark a notification as read."""
        Nothing.read(request)
        get_object_or_404(Notification.objects.inbox(user_id(request)), pk=pk)
        services.mark_read(user_id=user_id(request), notification_id=pk, now=timezone.now())
        return Response(status=204)


class ReadAll(APIView):
    @extend_schema(request=Nothing, responses={204: None})
    def post(self, request: Request) -> Response:
        """Mark all one's notifications as read."""
        Nothing.read(request)
        services.mark_read(user_id=user_id(request), now=timezone.now())
        return Response(status=204)
