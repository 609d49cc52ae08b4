"""Charts of what analytics counts, in the place of the list of Sales. They follow what happens.

Their script asks for the figures every few seconds, and draws them: static/analytics/charts.js.
"""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone

from analytics import reports
from analytics.models import Sales
from analytics.reports import PRODUCT_COLUMNS, SALES_COLUMNS, Span, as_csv
from outbox.admin.pages import LargeTableAdmin, ReadOnly

# What a person can choose, and by what it is shown.
RANGES = {
    "24h": ("24 hours", timedelta(hours=24), "hour"),
    "7d": ("7 days", timedelta(days=7), "day"),
    "30d": ("30 days", timedelta(days=30), "day"),
    "90d": ("90 days", timedelta(days=90), "day"),
}
DEFAULT = "24h"
PRODUCTS_SHOWN = 10


def chosen(request: HttpRequest) -> str:
    """Return which of RANGES is asked for."""
    name = request.GET.get("range", DEFAULT)
    return name if name in RANGES else DEFAULT


def span_of(name: str, now: datetime) -> Span:
    _, length, bucket = RANGES[name]
    return Span.until(now, length, bucket)


@admin.register(Sales)
class Charts(ReadOnly, LargeTableAdmin):
    def get_urls(self) -> list[URLPattern]:
        # The rows are parts of sums, and have no pages.
        pages = {
            "": self.changelist_view,
            "figures/": self.figures,
            "sales.csv": self.sales,
            "products.csv": self.products,
        }
        names = ("changelist", "figures", "sales_csv", "products_csv")
        return [
            path(place, self.admin_site.admin_view(view), name=f"analytics_sales_{name}")
            for (place, view), name in zip(pages.items(), names, strict=True)
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the page, which fills itself."""
        self._check(request)
        context = {
            **self.admin_site.each_context(request),
            "title": "Sales",
            "opts": self.opts,
            "ranges": [(name, label) for name, (label, *_) in RANGES.items()],
            "chosen": chosen(request),
            "currency": settings.CURRENCY,
        }
        return TemplateResponse(request, "admin/analytics/sales/charts.html", context)

    def figures(self, request: HttpRequest) -> HttpResponse:
        """Return all that the page shows, as JSON."""
        self._check(request)
        now = timezone.now()
        span = span_of(chosen(request), now)
        sales = reports.sales(span)
        return JsonResponse(
            {
                "at": now,
                "bucket": span.bucket,
                **sales,
                "totals": {
                    name: sum(row[name] for row in sales["results"])
                    for name in ("revenue", "refunds", "orders", "units")
                },
                "funnel": reports.funnel(span),
                "products": reports.products(span, PRODUCTS_SHOWN)["results"],
                "activity": reports.activity(span),
            }
        )

    def sales(self, request: HttpRequest) -> HttpResponse:
        """Return the sales of a range as CSV."""
        self._check(request)
        return download("sales", as_csv(SALES_COLUMNS, reports.sales(span_of(chosen(request), timezone.now()))))

    def products(self, request: HttpRequest) -> HttpResponse:
        """Return the products of a range as CSV, those that brought most first."""
        self._check(request)
        report = reports.products(span_of(chosen(request), timezone.now()), limit=None)
        return download("products", as_csv(PRODUCT_COLUMNS, report))

    def _check(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied


def download(name: str, text: str) -> HttpResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return HttpResponse(text, content_type="text/csv; charset=utf-8", headers=headers)
