"""The dead letters: found, grouped by cause, looked at, tried, retried, edited and discarded, one or many at a time."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.utils import flatten_fieldsets, unquote
from django.core.exceptions import BadRequest, PermissionDenied
from django.db.models import Count, Max, Min, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from outbox.admin import acts
from outbox.admin.filters import AgeFilter, CauseFilter, StatusFilter
from outbox.admin.forms import DiscardForm, PatchForm
from outbox.admin.letters import behind, editable, in_short, same_lines
from outbox.admin.pages import ReadOnlyAdmin, may
from outbox.letters import retrying
from outbox.letters.retrying import DryRun, InvalidEdit, Refused
from outbox.models import FailedMessage
from outbox.registry import RELAY
from outbox.transactions import NotApplied

# Causes that are listed on their page, and letters that a page asking for consent names.
CAUSES_SHOWN, LETTERS_SHOWN = 100, 20
# Bytes that are read at once of a body that nobody wants.
DRAIN_BYTES = 65_536

RETRY, DISCARD = "retry_failedmessage", "discard_failedmessage"


# What a page says that asks for consent to an act on many letters.
BULK: dict[str, dict[str, Any]] = {
    "dry_run_letters": {"title": "Dry run", "form": None, "limit": acts.RETRY_LIMIT},
    "retry_letters": {
        "title": "Retry failed messages",
        "form": None,
        "button": "Retry",
        "hint": f"The oldest {acts.RETRY_LIMIT} are retried now; the worker of dead letters takes the others.",
    },
    "edit_letters": {
        "title": "Edit and retry failed messages",
        "form": PatchForm,
        "button": "Save and retry",
        "limit": acts.RETRY_LIMIT,
    },
    "discard_letters": {
        "title": "Discard failed messages",
        "form": DiscardForm,
        "button": "Discard",
        "limit": acts.DISCARD_LIMIT,
        "hint": "They are never applied. What is parked behind them is.",
    },
}


@admin.register(FailedMessage)
class FailedMessageAdmin(ReadOnlyAdmin):
    list_display = [
        "id",
        "status",
        "consumer_group",
        "event_type",
        "key_in_short",
        "error_in_short",
        "created_at",
        "attempts",
        "place",
    ]
    list_filter = [StatusFilter, AgeFilter, CauseFilter, "consumer_group", "event_type", "error_class"]
    search_fields = ["error", "=topic"]
    search_ids = ["event_id"]
    fieldsets = [
        (
            None,
            {
                "fields": [
                    ("status", "consumer_group"),
                    ("event_type", "event"),
                    "place",
                    "readable_key",
                    ("attempts", "next_retry_at"),
                    ("created_at", "processed_at", "given_up_at"),
                    "reason",
                ]
            },
        ),
        ("Error", {"fields": ["readable_error"], "classes": ["outbox-wide"]}),
        ("Headers", {"fields": ["readable_headers"], "classes": ["collapse", "outbox-wide"]}),
    ]
    actions = ["dry_run_letters", "retry_letters", "edit_letters", "discard_letters"]

    # ── Lists ──

    def get_queryset(self, request: HttpRequest) -> QuerySet[FailedMessage]:
        # Which may be a megabyte in each row of a list.
        return super().get_queryset(request).defer("value", "headers")

    @admin.display(description="error", ordering="error_class")
    def error_in_short(self, letter: FailedMessage) -> str:
        return in_short(letter)

    @admin.display(description="topic / partition / offset", ordering="offset")
    def place(self, letter: FailedMessage) -> str:
        if letter.consumer_group == RELAY:
            return f"{letter.topic}, refused by Kafka"
        return f"{letter.topic} / {letter.partition} / {letter.offset}"

    @admin.display(description="error")
    def readable_error(self, letter: FailedMessage) -> SafeString:
        return format_html('<pre class="outbox-text">{}</pre>', letter.error)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("causes/", view(self.causes_view), name="outbox_failedmessage_causes"),
            path("<path:object_id>/act/", view(self.act_view), name="outbox_failedmessage_act"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        for action in request.POST.getlist("action"):
            if action in BULK and not may(request, DISCARD if action == "discard_letters" else RETRY):
                raise PermissionDenied
        return super().changelist_view(request, extra_context)

    def causes_view(self, request: HttpRequest) -> HttpResponse:
        """Show open letters grouped by what is the same about them, the most numerous first."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        groups = FailedMessage.objects.open().order_by()
        causes: list[dict[str, Any]] = [
            dict(cause)
            for cause in groups.values("fingerprint", "consumer_group", "event_type", "error_class")
            .annotate(letters=Count("id"), oldest=Min("created_at"), newest=Max("created_at"), last=Max("id"))
            .order_by("-letters", "-last")[:CAUSES_SHOWN]
        ]
        examples = FailedMessage.objects.only("error", "error_class").in_bulk([cause["last"] for cause in causes])
        changelist = reverse("admin:outbox_failedmessage_changelist")
        for cause in causes:
            # Solved and removed in between, if it is not there.
            example = examples.get(cause["last"])
            cause["error"] = in_short(example) if example else cause["error_class"]
            cause["url"] = reverse(
                "admin:outbox_failedmessage_changelist",
                query={"status": "open"} | {name: cause[name] for name in ("fingerprint", "consumer_group")},
            )
        context = {
            **self.admin_site.each_context(request),
            **self._permissions(request),
            "title": "Failures by cause",
            "opts": self.opts,
            "media": self.media,
            "causes": causes,
            "changelist": changelist,
            "shown": CAUSES_SHOWN,
        }
        return TemplateResponse(request, "admin/outbox/failedmessage/causes.html", context)

    # ── One letter ──

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method != "GET":
            raise PermissionDenied
        letter = self._letter(request, object_id)
        return letter if isinstance(letter, HttpResponse) else self._page(request, letter)

    # Exempt, since the check would read the body, and Django has no page to say that one is too large.
    @csrf_exempt
    def act_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Do to one letter what the pressed button says."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        letter = self._letter(request, object_id)
        if isinstance(letter, HttpResponse):
            return letter
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        if limit is not None and int(request.META.get("CONTENT_LENGTH") or 0) > limit:
            # Else the answer would be lost: a connection with unread data is reset.
            while request.read(DRAIN_BYTES):
                pass
            problem = f"This text is too large: {limit:,} bytes can be sent at most. Nothing was changed."
            return self._page(request, letter, problem=problem, status=413)
        return csrf_protect(self._act)(request, letter)

    def _letter(self, request: HttpRequest, object_id: str) -> FailedMessage | HttpResponse:
        letter = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, letter):
            raise PermissionDenied
        if letter is None:
            messages.warning(request, "There is no such failed message any more.")
            return HttpResponseRedirect(reverse("admin:outbox_failedmessage_changelist"))
        return letter

    def _act(self, request: HttpRequest, letter: FailedMessage) -> HttpResponse:
        acts_by_button: dict[str, tuple[str, Callable[..., HttpResponse]]] = {
            "dry_run": (RETRY, self._dry_run),
            "dry_run_edited": (RETRY, self._dry_run_edited),
            "retry": (RETRY, self._retry),
            "edit": (RETRY, self._edit),
            "discard": (DISCARD, self._discard),
        }
        button = request.POST.get("act", "")
        if button not in acts_by_button:
            raise BadRequest("no such act")
        permission, act = acts_by_button[button]
        if not may(request, permission):
            raise PermissionDenied
        text = request.POST.get("value")
        try:
            return act(request, letter, text)
        except InvalidEdit as error:
            return self._page(request, letter, text=text, problem=str(error))
        except Refused as refusal:
            messages.error(request, str(refusal))
        except NotApplied as trouble:
            messages.error(request, f"This is not possible now, and nothing was changed: {trouble}")
        letter.refresh_from_db()
        return self._page(request, letter, text=text)

    def _dry_run(self, request: HttpRequest, letter: FailedMessage, text: str | None) -> HttpResponse:
        outcome = retrying.dry_run(letter.pk)
        return self._page(request, letter, text=text, dry_run=outcome, of="the value as it is")

    def _dry_run_edited(self, request: HttpRequest, letter: FailedMessage, text: str | None) -> HttpResponse:
        outcome = retrying.dry_run(letter.pk, value=acts.compact(text or ""))
        return self._page(request, letter, text=text, dry_run=outcome, of="the edited value")

    def _retry(self, request: HttpRequest, letter: FailedMessage, text: str | None) -> HttpResponse:
        return self._back(request, letter, acts.retry(request.user.pk, letter.pk))

    def _edit(self, request: HttpRequest, letter: FailedMessage, text: str | None) -> HttpResponse:
        # Laid out as the page showed it, but not changed: then not a byte is.
        untouched = text is not None and same_lines(text) == editable(letter)
        value = bytes(letter.value or b"") if untouched else acts.compact(text or "")
        return self._back(request, letter, acts.edit(request.user.pk, letter.pk, lambda before: value))

    def _discard(self, request: HttpRequest, letter: FailedMessage, text: str | None) -> HttpResponse:
        form = DiscardForm(request.POST)
        if not form.is_valid():
            return self._page(request, letter, text=text, discard_form=form)
        return self._back(request, letter, acts.discard(request.user.pk, letter.pk, form.cleaned_data["reason"]))

    def _back(self, request: HttpRequest, letter: FailedMessage, act: acts.Act) -> HttpResponse:
        self.message_user(request, act.told, messages.WARNING if act.failed else messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:outbox_failedmessage_change", args=[letter.pk]))

    def _page(
        self,
        request: HttpRequest,
        letter: FailedMessage,
        *,
        text: str | None = None,
        problem: str = "",
        dry_run: DryRun | None = None,
        discard_form: DiscardForm | None = None,
        status: int = 200,
        **context: Any,
    ) -> HttpResponse:
        """Return a letter's page. `text` is what the editor holds if not the value, `problem` what is wrong with it."""
        fieldsets: Any = self.get_fieldsets(request, letter)
        names = flatten_fieldsets(fieldsets)
        form = self.get_form(request, letter, change=True, fields=names)(instance=letter)
        context |= {
            **self.admin_site.each_context(request),
            **self._permissions(request),
            "title": "Failed message",
            "subtitle": str(letter),
            "opts": self.opts,
            "original": letter,
            "adminform": helpers.AdminForm(form, fieldsets, {}, names, model_admin=self),
            "media": self.media,
            "letter": letter,
            "value": self.readable_value(letter),
            "text": editable(letter) if text is None else text,
            "problem": problem,
            "dry_run": dry_run,
            "discard_form": discard_form or DiscardForm(),
            "alike": FailedMessage.objects.open().filter(fingerprint=letter.fingerprint).exclude(pk=letter.pk).count(),
            **behind(letter),
        }
        return TemplateResponse(request, "admin/outbox/failedmessage/letter.html", context, status=status)

    # ── Many letters ──

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return may(request, RETRY)

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return may(request, DISCARD)

    def _permissions(self, request: HttpRequest) -> dict[str, bool]:
        return {"can_retry": may(request, RETRY), "can_discard": may(request, DISCARD)}

    @admin.action(description="Dry run", permissions=["retry"])
    def dry_run_letters(self, request: HttpRequest, letters: QuerySet[FailedMessage]) -> HttpResponse:
        return self._consent(request, "dry_run_letters", letters, outcomes=acts.dry_run_all(letters))

    @admin.action(description="Retry", permissions=["retry"])
    def retry_letters(self, request: HttpRequest, letters: QuerySet[FailedMessage]) -> HttpResponse | None:
        # Of those that are not all on the page, a person shall see how many there are.
        if request.POST.get("select_across") == "1" and "consent" not in request.POST:
            return self._consent(request, "retry_letters", letters)
        self._report(request, acts.retry_all(request.user.pk, _seen(request, letters)))
        return None

    @admin.action(description="Edit and retry…", permissions=["retry"])
    def edit_letters(self, request: HttpRequest, letters: QuerySet[FailedMessage]) -> HttpResponse | None:
        form = PatchForm(request.POST if "consent" in request.POST else None)
        if not form.is_valid():
            return self._consent(request, "edit_letters", letters, form=form)
        patch = form.cleaned_data["changes"]
        if request.POST["consent"] == "dry_run":
            return self._consent(
                request, "edit_letters", letters, form=form, outcomes=acts.dry_run_all(_seen(request, letters), patch)
            )
        self._report(request, acts.edit_all(request.user.pk, _seen(request, letters), patch))
        return None

    @admin.action(description="Discard…", permissions=["discard"])
    def discard_letters(self, request: HttpRequest, letters: QuerySet[FailedMessage]) -> HttpResponse | None:
        form = DiscardForm(request.POST if "consent" in request.POST else None)
        if not form.is_valid():
            return self._consent(request, "discard_letters", letters, form=form)
        reason = form.cleaned_data["reason"]
        self._report(request, acts.discard_all(request.user.pk, _seen(request, letters), reason))
        return None

    def _report(self, request: HttpRequest, report: acts.Report) -> None:
        trouble = report.failed or report.refusals
        self.message_user(request, str(report), messages.WARNING if trouble else messages.SUCCESS)

    def _consent(
        self,
        request: HttpRequest,
        action: str,
        letters: QuerySet[FailedMessage],
        *,
        form: forms.Form | None = None,
        outcomes: list[tuple[int, str]] | None = None,
    ) -> HttpResponse:
        """Return the page that shows which letters are meant, and asks for what the act needs."""
        meant = _seen(request, letters).filter(status__in=FailedMessage.OPEN).order_by("id")
        newest = meant.aggregate(newest=Max("id"))["newest"] or 0
        hidden = [
            ("action", action),
            ("index", "0"),
            ("select_across", request.POST.get("select_across", "0")),
            ("newest", request.POST.get("newest", newest)),
            *((helpers.ACTION_CHECKBOX_NAME, pk) for pk in request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)),
        ]
        context = {
            **self.admin_site.each_context(request),
            **BULK[action],
            "opts": self.opts,
            "media": self.media,
            "action": action,
            "form": form,
            "outcomes": outcomes,
            "count": meant.count(),
            "letters": [(letter, in_short(letter)) for letter in meant[:LETTERS_SHOWN]],
            "hidden": hidden,
        }
        return TemplateResponse(request, "admin/outbox/failedmessage/consent.html", context)


def _seen(request: HttpRequest, letters: QuerySet[FailedMessage]) -> QuerySet[FailedMessage]:
    """Keep the letters that were there when the page was shown that asked for consent, if one did."""
    newest = request.POST.get("newest", "")
    return letters.filter(pk__lte=int(newest)) if newest.isdecimal() else letters
