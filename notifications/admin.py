"""Notifications in the admin, to look at."""

from django.contrib import admin

from config.admin import ReadOnly
from notifications.models import Notification


@admin.register(Notification)
class Notifications(ReadOnly, admin.ModelAdmin):
    list_display = ["title", "user", "kind", "created_at", "read_at"]
    list_filter = ["kind"]
    list_select_related = ["user"]
    search_fields = ["user__username", "^subject_id"]
