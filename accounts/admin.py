"""Users and their tokens in the admin."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest
from knox.models import AuthToken

from accounts import services
from accounts.models import User


@admin.register(User)
class Users(UserAdmin):
    list_display = ["username", "email", "language", "is_staff", "is_active", "date_joined"]
    readonly_fields = ["last_login", "date_joined"]
    fieldsets = [
        *(UserAdmin.fieldsets or []),
        ("Notifications", {"fields": ["language", "telegram_chat_id"]}),
    ]
    add_fieldsets = [
        (None, {"fields": ["username", "email", "language", "usable_password", "password1", "password2"]}),
    ]

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
        else:
            services.add(user=obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        # What a user did stays, and it is theirs. "Active" ends what they can do.
        return False


admin.site.unregister(AuthToken)


@admin.register(AuthToken)
class Tokens(admin.ModelAdmin):
    """To look at and to revoke. A token itself is not stored."""

    list_display = ["user", "created", "expiry"]
    list_select_related = ["user"]
    search_fields = ["user__username"]
    fields = ["user", "created", "expiry"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuthToken | None = None) -> bool:
        return False
