"""Users, their groups, their tokens and whom they follow in the admin."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from knox.models import AuthToken

from accounts import services
from accounts.forms import NewPasswordForm, OwnPasswordForm, UserForm
from accounts.models import Follow, User
from config.admin import ShopAdmin, Table, list_link, row_link
from outbox.admin.pages import ReadOnly


def change_own_password(request: HttpRequest) -> HttpResponseBase:
    """Do as the admin's own view, whose form cannot be chosen, with one that revokes the user's tokens."""
    view = PasswordChangeView.as_view(
        form_class=OwnPasswordForm,
        success_url=reverse("admin:password_change_done"),
        extra_context=admin.site.each_context(request),
    )
    return view(request)


@admin.register(User)
class Users(ShopAdmin, UserAdmin):
    list_display = ["username", "email", "language", "is_staff", "is_active", "date_joined"]
    readonly_fields = ["last_login", "date_joined"]
    search_ids = ["pk"]
    fieldsets = [
        *(UserAdmin.fieldsets or []),
        ("Notifications", {"fields": ["language", "telegram_chat_id"]}),
    ]
    add_fieldsets = [
        (None, {"fields": ["username", "email", "language", "usable_password", "password1", "password2"]}),
    ]
    form = UserForm
    change_password_form = NewPasswordForm

    def tables(self, request: HttpRequest, user: User) -> Iterator[Table]:
        theirs = [
            ("payments.view_wallet", row_link("payments_wallet", user.pk, "Wallet")),
            ("orders.view_order", list_link("orders_order", "Orders", customer=user.pk)),
            ("payments.view_payment", list_link("payments_payment", "Payments", user=user.pk)),
            ("coupons.view_issuedcoupon", list_link("coupons_issuedcoupon", "Coupons", user=user.pk)),
            ("coupons.view_request", list_link("coupons_request", "Requests for coupons", user=user.pk)),
            ("notifications.view_notification", list_link("notifications_notification", "Notifications", user=user.pk)),
            ("notifications.view_optout", list_link("notifications_optout", "Not wanted", user=user.pk)),
            ("posts.view_post", list_link("posts_post", "Posts", author=user.pk)),
            ("accounts.view_follow", list_link("accounts_follow", "Followers", followed=user.pk)),
            ("accounts.view_follow", list_link("accounts_follow", "Follows", follower=user.pk)),
            ("knox.view_authtoken", list_link("knox_authtoken", "Tokens", user=user.pk)),
        ]
        yield Table("Theirs", [], [[page] for permission, page in theirs if request.user.has_perm(permission)])

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Let nobody give themselves or others what they may do, but a superuser."""
        fields = super().get_readonly_fields(request, obj)
        rights = () if request.user.is_superuser else ("is_staff", "is_superuser", "groups", "user_permissions")
        return [*fields, *rights]

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Likewise: who could change the password of a colleague could act with that one's permissions."""
        of_customer = obj is None or request.user.is_superuser or not obj.is_staff
        return of_customer and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if change:
            services.update_user(user_id=obj.pk, **{name: form.cleaned_data[name] for name in form.changed_data})
        else:
            services.add(user=obj)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        # Of a change, save_model saved groups and permissions too, where they were changed.
        if not change:
            super().save_related(request, form, formsets, change)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except services.Taken:
            # By somebody who came since the form was checked. Checked again, it says so.
            return super().changeform_view(request, *args, **kwargs)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        # What a user did stays, and it is theirs. "Active" ends what they can do.
        return False


@admin.register(Follow)
class Follows(ReadOnly, ShopAdmin):
    list_display = fields = ("follower", "followed", "created_at")
    list_filter = ["created_at"]
    list_select_related = ["follower", "followed"]
    search_fields = ["follower__username", "followed__username"]


admin.site.unregister(Group)


@admin.register(Group)
class Groups(ShopAdmin, GroupAdmin):
    """Who changes a group could give themselves what its members may do, so only a superuser does."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return bool(request.user.is_superuser)


admin.site.unregister(AuthToken)


@admin.register(AuthToken)
class Tokens(ShopAdmin):
    """To look at and to revoke. A token itself is not stored."""

    list_display = ["user", "created", "expiry"]
    list_select_related = ["user"]
    search_fields = ["user__username"]
    fields = ["user", "created", "expiry"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuthToken | None = None) -> bool:
        return False
