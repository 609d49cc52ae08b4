"""Notifications in the admin: found, looked at as they are sent, and sent again; texts before anybody is told them."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from csp.constants import NONE, SELF, UNSAFE_INLINE
from csp.decorators import csp_replace
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.clickjacking import xframe_options_sameorigin

from config.admin import Act, Refused, ShopAdmin, list_link, row_link
from notifications import services
from notifications.channels import Message, mail, telegram
from notifications.kinds import Channel, Kind
from notifications.models import Notification, OptOut, Outage
from notifications.samples import sample, sample_for_operators
from notifications.sending import message_of
from outbox.admin.events import tells_of_event
from outbox.admin.pages import ReadOnly, event_link

# An e-mail has its style within it, and is shown in a frame of our own pages. It can do nothing there.
AS_A_LETTER: list[Any] = [
    csp_replace({"default-src": [NONE], "style-src": [UNSAFE_INLINE], "frame-ancestors": [SELF]}),
    xframe_options_sameorigin,
]


LANGUAGES = [("en", "English"), ("ko", "한국어")]


# How many one request sends again, each with its line in the log.
SEND_AGAIN_LIMIT = 1_000


class SampleForm(forms.Form):
    """Which text is to be looked at."""

    kind = forms.ChoiceField(choices=Kind.choices)
    language = forms.ChoiceField(choices=LANGUAGES)


def send_again(request: HttpRequest, notification: Notification) -> str:
    if not services.send_again(ids=[notification.pk]):
        raise Refused("It has not failed, or is being sent again already.")
    return "It is sent again."


@admin.register(Notification)
class NotificationAdmin(ReadOnly, ShopAdmin):
    list_display = ["created_at", "kind", "channel", "recipient", "status", "due_at", "sent_at"]
    fields = [
        ("kind", "channel"),
        "to",
        ("status", "attempts", "due_at"),
        "error",
        ("created_at", "sent_at", "read_at"),
        "event",
        "subject_id",
        "shown",
    ]
    list_filter = ["status", "channel", "kind"]
    list_select_related = ["user"]
    search_fields = ["user__username"]
    search_ids = ["event_id"]
    search_help_text = "A customer's name, or the beginning of the id of the event that it tells of."
    change_list_template = "admin/notifications/notification/list.html"
    actions = ["send_again"]
    acts = [
        Act(
            "send_again",
            "Send again",
            "notifications.resend_notification",
            send_again,
            hint="It is sent within a second or so, to where its recipient is now.",
            offered=lambda notification: notification.status == Notification.Status.FAILED,
        )
    ]

    @admin.display(ordering="user__username")
    def recipient(self, notification: Notification) -> str:
        return str(notification.user or "operators")

    @admin.display(description="recipient")
    def to(self, notification: Notification) -> SafeString | str:
        user = notification.user
        return row_link("accounts_user", user.pk, user) if user else "operators"

    def event(self, notification: Notification) -> SafeString | None:
        return event_link(notification.event_id)

    @admin.display(description="as it is told now")
    def shown(self, notification: Notification) -> SafeString | str:
        try:
            message = message_of(notification)
        except KeyError as error:
            return f"Its text cannot be written: it lacks {error}."
        match notification.channel:
            case Channel.EMAIL:
                return framed(message, self.page("letter", notification))
            case Channel.TELEGRAM:
                return bubble(message)
        return format_html("<b>{}</b><br>{}", message.text.title, message.text.body)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        name = "notifications_notification_{}".format
        return [
            path("texts/", view(self.texts_view), name=name("texts")),
            path("texts/letter/", view(self.sample_letter_view), name=name("sample_letter")),
            path("<path:object_id>/letter/", view(self.letter_view), name=name("letter")),
            *super().get_urls(),
        ]

    def has_send_again_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("notifications.resend_notification")

    @admin.action(description="Send selected notifications again", permissions=["send_again"])
    def send_again(self, request: HttpRequest, notifications: QuerySet[Notification]) -> None:
        failed_ones = notifications.filter(status=Notification.Status.FAILED)
        with transaction.atomic():
            failed = list(failed_ones.select_for_update(of=["self"])[:SEND_AGAIN_LIMIT])
            number = services.send_again(ids=[notification.pk for notification in failed])
            more = failed_ones.exists()
            for notification in failed:
                self.log_change(request, notification, "It is sent again.")
        told = f"Sent again: {number}." + (" Others have failed, too: do it once more." if more else "")
        self.message_user(request, told, messages.SUCCESS if number else messages.WARNING)

    def texts_view(self, request: HttpRequest) -> HttpResponse:
        """Show a text on each channel, in a language, with made-up names and amounts."""
        form, message = self._sample(request)
        kind = form.cleaned_data["kind"]
        chats = [("Telegram", bubble(message))]
        if kind == Kind.PAYMENT_SUCCEEDED:
            chats.append(("Telegram, to the operators", bubble(sample_for_operators(message.language))))
        letter = reverse("admin:notifications_notification_sample_letter", query=form.cleaned_data)
        context = {
            **self.admin_site.each_context(request),
            "title": "Texts",
            "opts": self.opts,
            "media": self.media,
            "form": form,
            "message": message,
            "letter": framed(message, letter),
            "plain": mail.letter(message).body,
            "chats": chats,
        }
        return TemplateResponse(request, "admin/notifications/notification/texts.html", context)

    @method_decorator(AS_A_LETTER)
    def sample_letter_view(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(html_of(self._sample(request)[1]))

    @method_decorator(AS_A_LETTER)
    def letter_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Answer with the HTML of an e-mail."""
        notification = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, notification):
            raise PermissionDenied
        if notification is None or notification.channel != Channel.EMAIL:
            raise Http404
        return HttpResponse(html_of(message_of(notification)))

    def _sample(self, request: HttpRequest) -> tuple[SampleForm, Message]:
        """Return which text is wanted, and that text."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = SampleForm({"kind": Kind.WELCOME, "language": "en", **request.GET.dict()})
        if not form.is_valid():
            raise BadRequest("There is no such text.")
        return form, sample(Kind(form.cleaned_data["kind"]), form.cleaned_data["language"])


def html_of(message: Message) -> str:
    """Return an e-mail's HTML."""
    [(content, _)] = mail.letter(message).alternatives
    return str(content)


def framed(message: Message, address: str) -> SafeString:
    return format_html(
        '<b>{}</b><iframe class="shop-letter" sandbox src="{}" title="E-mail"></iframe>',
        message.text.title,
        address,
    )


def bubble(message: Message) -> SafeString:
    # Whatever in it people have written is escaped.
    return format_html('<div class="shop-chat">{}</div>', mark_safe(telegram.html(message)))


@tells_of_event
def notifications_of_event(request: HttpRequest, event_id: UUID) -> Iterator[SafeString]:
    """Lead from an event to who was told of it."""
    may_view = request.user.has_perm("notifications.view_notification")
    if may_view and Notification.objects.filter(event_id=event_id).exists():
        yield list_link("notifications_notification", "Notifications", q=event_id)


@admin.register(OptOut)
class OptOutAdmin(ReadOnly, ShopAdmin):
    list_display = fields = ("user", "kind", "channel", "created_at")
    list_filter = ["kind", "channel"]
    list_select_related = ["user"]
    search_fields = ["user__username"]


def end_outage(request: HttpRequest, outage: Outage) -> str:
    if not services.end_outage(channel=Channel(outage.channel)):
        raise Refused("It is over already.")
    return f"{outage} is tried at once."


@admin.register(Outage)
class OutageAdmin(ReadOnly, ShopAdmin):
    list_display = fields = ("channel", "since", "failures", "paused_until", "error")
    acts = [Act("end", "Try it now", "notifications.end_outage", end_outage)]
