"""What the API and the admin show: sums over whole hours or days of UTC, as JSON has them and as CSV."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

from django.conf import settings

from analytics.models import NO_MONEY, Activity, CancelReason, Funnel, ProductSales, Sales, hour_of

LENGTHS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
SALES_COLUMNS = ("bucket", "orders", "units", "revenue", "refunds", "currency")
PRODUCT_COLUMNS = ("sku", "units", "revenue", "currency")
# A cell that begins with one of these is a formula to spreadsheets, or may become one (OWASP, CSV Injection).
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
# The columns that hold words; an amount below zero is no formula.
TEXTS = {"sku", "currency"}


@dataclass(frozen=True)
class Span:
    """Whole hours or days of UTC: `bucket` says which. The end is no part of it."""

    start: datetime
    end: datetime
    bucket: str

    @classmethod
    def covering(cls, start: datetime, end: datetime, bucket: str) -> "Span":
        """Return the hours or days in which something before `end` and not before `start` may lie.

        Raises:
            OverflowError: they go on after the end of year 9999.
        """
        last = floor(end, bucket)
        return cls(floor(start, bucket), last if last == end else last + LENGTHS[bucket], bucket)

    @classmethod
    def until(cls, end: datetime, length: timedelta, bucket: str) -> "Span":
        """Return as many hours or days as `length` has, the last of them that in which `end` lies.

        Raises:
            OverflowError: they begin before year 1, or go on after the end of year 9999.
        """
        whole = cls.covering(end, end, bucket)
        return cls(whole.end - length, whole.end, bucket)

    def __len__(self) -> int:
        return (self.end - self.start) // LENGTHS[self.bucket]

    @property
    def buckets(self) -> list[datetime]:
        """The beginnings of the hours or days."""
        return [self.start + number * LENGTHS[self.bucket] for number in range(len(self))]


def floor(moment: datetime, bucket: str) -> datetime:
    """Return the begin of the hour or day in which a time in UTC lies."""
    return hour_of(moment) if bucket == "hour" else hour_of(moment).replace(hour=0)


def sales(span: Span) -> dict[str, Any]:
    """Return {currency, results: [{bucket, orders, units, revenue, refunds}]}, with each bucket of the span."""
    found = {row["bucket"]: row for row in Sales.objects.between(span.start, span.end).by(span.bucket)}
    nothing = {"orders": 0, "units": 0, "revenue": NO_MONEY, "refunds": NO_MONEY}
    results = [found.get(bucket, {"bucket": bucket, **nothing}) for bucket in span.buckets]
    return {"currency": settings.CURRENCY, "results": results}


def products(span: Span, limit: int | None) -> dict[str, Any]:
    """Return {currency, results: [{sku, units, revenue}]} of the products that brought most; None: of all."""
    return {
        "currency": settings.CURRENCY,
        "results": list(ProductSales.objects.between(span.start, span.end).top(limit)),
    }


def funnel(span: Span) -> dict[str, Any]:
    """Return how many of the orders placed in the span got how far, and the mean seconds between two steps."""
    total = Funnel.objects.between(span.start, span.end).totals()
    cancelled = {reason.value: total[reason.counter] for reason in CancelReason}
    steps = {
        "created_to_reserved": total["reserved"],
        "reserved_to_completed": total["reserved_and_completed"],
        "created_to_completed": total["completed"],
        "created_to_cancelled": sum(cancelled.values()),
    }
    return {
        "created": total["created"],
        "reserved": total["reserved"],
        "completed": total["completed"],
        "cancelled": cancelled,
        "seconds": {name: total[f"{name}_us"] / count / 1e6 if count else None for name, count in steps.items()},
    }


def activity(span: Span) -> list[dict[str, Any]]:
    """Return [{event_type, count}], the most frequent first."""
    return list(Activity.objects.between(span.start, span.end).by_type())


def as_csv(columns: Sequence[str], report: Mapping[str, Any]) -> str:
    """Return the results of a report as CSV (RFC 4180), with its currency in each row."""
    text = StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in report["results"]:
        cells = {**row, "currency": report["currency"]}
        writer.writerow([_cell(column, cells[column]) for column in columns])
    return text.getvalue()


def _cell(column: str, value: Any) -> Any:
    match value:
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        case Decimal():
            return f"{value:.2f}"
        case str() if column in TEXTS and value.startswith(FORMULAS):
            # Makes it text to spreadsheets.
            return f"'{value}"
        case _:
            return value
