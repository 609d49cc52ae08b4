"""Notifications in the admin, to look at."""

from django.contrib import admin

from config.admin import ShopAdmin
from notifications.models import Notification
from outbox.admin.pages import ReadOnly


@admin.register(Notification)
class Notifications(ReadOnly, ShopAdmin):
    list_display = ["title", "user", "kind", "created_at", "read_at"]
    list_filter = ["kind"]
    list_select_related = ["user"]
    search_fields = ["user__username"]
    search_ids = ["event_id"]
    search_help_text = "A customer's name, or the beginning of the id of the event that it tells of."
