"""What the admin's pages of the shop have in common: tables of what belongs to a row, and acts.

An act is what a person may do to a row: it has a page of its own, a permission of its own, and calls a service. Each
act and its line in Django's log commit together.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from config.forms import ActForm, use_up
from outbox.admin.pages import LargeTableAdmin, link

SENT_BEFORE = "This was sent before, and was not done again."


def row_link(model: str, pk: Any, text: object) -> SafeString:
    """Return a link to the page of one row. `model` is its app and name: "orders_order"."""
    return link(reverse(f"admin:{model}_change", args=[quote(pk)]), text)


def list_link(model: str, text: object, **query: Any) -> SafeString:
    """Return a link to a list, filtered."""
    return link(reverse(f"admin:{model}_changelist", query=query), text)


def text(words: str) -> SafeString:
    """Return words that may be many, for a cell that is to have more than one line then."""
    return format_html('<div class="shop-text">{}</div>', words)


@dataclass(frozen=True)
class Table:
    """Rows of other models that belong to the row of a page."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    # What stands below it, as a link to the whole list where this is its beginning.
    note: object = ""
    # What is said where there are no rows. None: the table is left out then.
    empty: str | None = None


class Refused(Exception):
    """An act that the row's state forbids. The message tells the person why."""


@dataclass(frozen=True)
class Act:
    """What a person may do to a row.

    `do` takes the request, the row and the form's values by name, and returns what it did, for the person and the log.
    It raises Refused.
    """

    name: str
    label: str
    # With the app: "orders.cancel_order".
    permission: str
    do: Callable[..., str]
    form: type[ActForm] = ActForm
    hint: str = ""
    # Cannot be undone.
    danger: bool = False
    # Whether a row's page has a button for it. One that comes from elsewhere is for `do` to refuse.
    offered: Callable[[Any], bool] = lambda row: True


admin.site.site_header = admin.site.site_title = "Orderbox"


class ShopAdmin(LargeTableAdmin):
    """A list and the pages of its rows, each with its tables and acts."""

    change_form_template = "admin/row.html"
    acts: Sequence[Act] = ()

    class Media:
        css = {"all": ["config/admin.css"]}

    def named(self, row: Any) -> str:
        """Return by what a person knows a row again before they do something to it."""
        return str(row)

    def tables(self, request: HttpRequest, row: Any) -> Iterable[Table]:
        """Return what stands below a row's fields. Leaves out what the user may not view."""
        return ()

    def get_urls(self) -> list[URLPattern]:
        opts = self.opts
        pages = [
            path(
                f"<path:object_id>/{act.name}/",
                self.admin_site.admin_view(partial(self.act_view, act=act)),
                name=f"{opts.app_label}_{opts.model_name}_{act.name}",
            )
            for act in self.acts
        ]
        return [*pages, *super().get_urls()]

    def page(self, name: str, row: models.Model) -> str:
        """Return the path of a row's page: that of an act, "change", "history"."""
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_{name}", args=[quote(row.pk)])

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        rows, related = super().get_queryset(request), self.list_select_related
        # For a row's page, too.
        return rows.select_related(*related) if isinstance(related, list | tuple) else rows

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        if row := context.get("original"):
            acts = [
                (act, self.page(act.name, row))
                for act in self.acts
                if act.offered(row) and request.user.has_perm(act.permission)
            ]
            context |= {"tables": list(self.tables(request, row)), "acts": acts}
        return super().render_change_form(request, context, *args, **kwargs)

    def act_view(self, request: HttpRequest, object_id: str, act: Act) -> HttpResponse:
        """Ask for what an act needs, and do it."""
        row = self.get_object(request, unquote(object_id))
        if not request.user.has_perm(act.permission) or not self.has_view_permission(request, row):
            raise PermissionDenied
        if row is None:
            raise Http404
        form = act.form(request.POST if request.method == "POST" else None)
        back = self.page("change", row)
        if form.is_valid():
            self.do(request, act, row, form)
            return HttpResponseRedirect(back)
        return self.ask(
            request,
            form,
            title=act.label,
            subtitle=self.named(row),
            hint=act.hint,
            danger=act.danger,
            back=back,
            original=row,
        )

    def ask(self, request: HttpRequest, form: ActForm, *, title: str, **more: Any) -> HttpResponse:
        """Show a form, with what else admin/act.html knows."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media + form.media,
            "form": form,
            "title": title,
            **more,
        }
        return TemplateResponse(request, "admin/act.html", context)

    def do(self, request: HttpRequest, act: Act, row: Any, form: ActForm) -> None:
        """Do an act and log it, once for each form that was shown; tell the person."""
        values = dict(form.cleaned_data)
        once = values.pop("once")
        try:
            with transaction.atomic():
                if not use_up(once):
                    raise Refused(SENT_BEFORE)
                told = act.do(request, row, **values)
                self.log_change(request, row, told)
        except Refused as refused:
            self.message_user(request, str(refused), messages.ERROR)
        else:
            self.message_user(request, told, messages.SUCCESS)
