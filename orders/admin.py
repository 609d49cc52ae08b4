"""Orders in the admin, with all that happened to them. They change by their services alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString

from config.admin import SENT_BEFORE, Act, ActForm, Refused, ShopAdmin, Table, row_link, text
from config.forms import use_up

# Declared exceptions: an order's page shows what the other apps hold for it.
from coupons.models import IssuedCoupon
from orders import services
from orders.events import ORDER
from orders.models import Line, Order, Step
from outbox.admin.events import tells_of_event
from outbox.admin.filters import EventTypeFilter
from outbox.admin.letters import in_short, of_key
from outbox.admin.pages import ReadOnly, event_link
from outbox.events import event_classes
from outbox.models import FailedMessage, InboxEvent, ParkedEvent
from outbox.registry import handlers_of
from payments.models import Entry, Payment
from stock.models import Movement, Reservation

# Orders that one request cancels; a request must end before the web server loses its patience.
CANCEL_LIMIT = 100
# Failed messages, and parked events, that an order's page shows.
TROUBLE_SHOWN = 20

CANCEL_HINT = "What it holds goes back to stock, what was paid to the wallet. This cannot be undone."


class Overdue(admin.SimpleListFilter):
    title = "deadline"
    parameter_name = "deadline"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("ahead", "Ahead"), ("passed", "Passed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        if self.value() == "ahead":
            return queryset.filter(deadline_at__gte=timezone.now())
        if self.value() == "passed":
            return queryset.filter(deadline_at__lt=timezone.now())
        return queryset


def cancel(request: HttpRequest, order: Order) -> str:
    try:
        services.cancel(order_id=order.pk)
    except services.AlreadyCancelled:
        raise Refused("This order was cancelled before.") from None
    except services.CancelWindowClosed:
        hours = settings.ORDER_CANCEL_WINDOW_HOURS
        raise Refused(f"This order was completed more than {hours} hours ago, when its cancel window closed.") from None
    return "Cancelled the order."


@admin.register(Order)
class OrderAdmin(ReadOnly, ShopAdmin):
    list_display = ["id", "customer", "state", "amount", "created_at", "deadline_at"]
    list_filter = ["status", "cancel_reason", Overdue, "created_at"]
    list_select_related = ["customer"]
    search_fields = ["customer__username", "customer__email"]
    search_ids = ["pk"]
    search_help_text = "The beginning of an order's id, or a customer's name or e-mail address."
    fields = [
        "id",
        "ordered_by",
        ("status", "cancel_reason"),
        ("total", "discount", "currency"),
        ("created_at", "updated_at"),
        ("completed_at", "deadline_at"),
    ]
    acts = [
        Act(
            "cancel",
            "Cancel this order",
            "orders.cancel_order",
            cancel,
            hint=CANCEL_HINT,
            danger=True,
            offered=lambda order: order.status != Order.Status.CANCELLED,
        )
    ]
    actions = ["cancel_orders"]

    @admin.display(description="status", ordering="status")
    def state(self, order: Order) -> str:
        reason = f": {order.get_cancel_reason_display()}" if order.cancel_reason else ""
        return f"{order.get_status_display()}{reason}"

    @admin.display(description="total", ordering="total")
    def amount(self, order: Order) -> str:
        return f"{order.total} {order.currency}"

    @admin.display(description="customer")
    def ordered_by(self, order: Order) -> SafeString:
        return row_link("accounts_user", order.customer_id, order.customer)

    def named(self, order: Order) -> str:
        return f"{order} of {order.customer}: {order.total} {order.currency}, {order.get_status_display().lower()}"

    def tables(self, request: HttpRequest, order: Order) -> Iterator[Table]:
        may = request.user.has_perm
        yield from trouble(request, order)
        if may("orders.view_line"):
            yield lines(order)
        if may("coupons.view_issuedcoupon"):
            yield coupons(order)
        if may("payments.view_payment"):
            yield payments(order)
        if may("payments.view_entry"):
            yield entries(order)
        if may("stock.view_reservation"):
            yield reservations(order)
        if may("stock.view_movement"):
            yield movements(order)
        if may("orders.view_step"):
            yield timeline(order, with_groups=may("outbox.view_inboxevent"))

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("orders.cancel_order")

    @admin.action(description="Cancel selected orders", permissions=["cancel"])
    def cancel_orders(self, request: HttpRequest, orders: QuerySet[Order]) -> HttpResponse | None:
        """Show what would be cancelled, and cancel just that once the person has consented."""
        if "consent" not in request.POST:
            return self._ask_to_cancel(request, orders)
        ids = sorted({UUID(pk) for pk in request.POST.getlist(ACTION_CHECKBOX_NAME)})[:CANCEL_LIMIT]
        # Not those of the list, whose filter may leave out by now what the person has seen.
        meant = self.get_queryset(request).filter(pk__in=ids)
        form = ActForm(request.POST)
        if not form.is_valid():
            return self._ask_to_cancel(request, meant)
        if not use_up(form.cleaned_data["once"]):
            self.message_user(request, SENT_BEFORE, messages.ERROR)
            return None
        found = list(meant.order_by("pk"))
        self._cancel(request, found)
        if missing := len(ids) - len(found):
            self.message_user(request, f"Not found: {missing}.", messages.ERROR)
        return None

    def _ask_to_cancel(self, request: HttpRequest, orders: QuerySet[Order]) -> HttpResponse:
        meant = list(orders.order_by("pk")[: CANCEL_LIMIT + 1])
        hint = "What they hold goes back to stock, what was paid to the wallets. This cannot be undone."
        if len(meant) > CANCEL_LIMIT:
            hint += f" No more than {CANCEL_LIMIT} at a time: these are the oldest."
        shown = meant[:CANCEL_LIMIT]
        rows = [
            (
                row_link("orders_order", order.pk, order),
                order.customer,
                order.status,
                f"{order.total} {order.currency}",
                order.created_at,
            )
            for order in shown
        ]
        return self.ask(
            request,
            ActForm(),
            title="Cancel these orders",
            hint=hint,
            danger=True,
            back=request.get_full_path(),
            # Each by its id, so that no order is cancelled that came after the person had looked.
            kept=[("action", "cancel_orders"), *((ACTION_CHECKBOX_NAME, order.pk) for order in shown)],
            tables=[Table(f"{len(shown)} orders", ["Order", "Customer", "Status", "Total", "Created at"], rows)],
        )

    def _cancel(self, request: HttpRequest, orders: Iterable[Order]) -> None:
        refusals: Counter[str] = Counter()
        cancelled = 0
        for order in orders:
            try:
                with transaction.atomic():
                    self.log_change(request, order, cancel(request, order))
                cancelled += 1
            except Refused as refused:
                refusals[str(refused)] += 1
        if cancelled:
            self.message_user(request, f"Cancelled {cancelled} order{'s' if cancelled > 1 else ''}.", messages.SUCCESS)
        for reason, count in refusals.items():
            self.message_user(request, f"Not cancelled: {count}. {reason}", messages.ERROR)


def lines(order: Order) -> Table:
    columns = ["SKU", "Name", "Quantity", "Unit price", "Amount"]
    rows = [
        (
            row_link("stock_product", line.sku, line.sku),
            line.name,
            line.quantity,
            line.unit_price,
            line.quantity * line.unit_price,
        )
        for line in order.lines.all()
    ]
    return Table("Lines", columns, rows, empty="None.")


def coupons(order: Order) -> Table:
    rows = [
        (row_link("coupons_coupon", issued.coupon_id, issued.coupon_id), issued.spent_at)
        for issued in IssuedCoupon.objects.filter(spent_on=order.pk)
    ]
    return Table("Coupon", ["Coupon", "Spent at"], rows)


def payments(order: Order) -> Table:
    columns = ["Payment", "Amount", "Captured", "Refunded", "Asked at", "Updated at"]
    rows = [
        (
            row_link("payments_payment", payment.pk, payment.status),
            f"{payment.amount} {payment.currency}",
            payment.captured,
            payment.refunded,
            payment.created_at,
            payment.updated_at,
        )
        for payment in Payment.objects.filter(pk=order.pk)
    ]
    return Table("Payment", columns, rows, empty="None was asked for yet.")


def entries(order: Order) -> Table:
    rows = [
        (entry.created_at, entry.kind, row_link("payments_wallet", entry.wallet_id, f"{entry.amount:+}"))
        for entry in Entry.objects.filter(order_id=order.pk).order_by("id")
    ]
    return Table("Wallet", ["At", "Kind", "Amount"], rows)


def reservations(order: Order) -> Table:
    columns = ["Product", "Quantity", "Status", "Reserved at", "Updated at"]
    rows = [
        (
            row_link("stock_product", reservation.product_id, reservation.product_id),
            reservation.quantity,
            row_link("stock_reservation", reservation.pk, reservation.status),
            reservation.created_at,
            reservation.updated_at,
        )
        for reservation in Reservation.objects.for_orders([order.pk]).order_by("product_id")
    ]
    return Table("Reservations", columns, rows, empty="None.")


def movements(order: Order) -> Table:
    columns = ["At", "Kind", "Product", "Quantity"]
    rows = [
        (
            movement.at,
            movement.kind,
            row_link("stock_product", movement.product_id, movement.product_id),
            movement.quantity,
        )
        for movement in Movement.objects.filter(order_id=order.pk).order_by("id")
    ]
    return Table("Stock movements", columns, rows)


def timeline(order: Order, *, with_groups: bool) -> Table:
    """Return the steps; `with_groups`: with the consumer groups that have applied each of their events."""
    steps = list(order.steps.all())
    columns = ["At", "Event", "Details"]
    rows: list[tuple[object, ...]] = [
        (step.at, event_link(step.event_id, step.event_type), text(told(step.details))) for step in steps
    ]
    if with_groups:
        groups: dict[UUID, list[str]] = defaultdict(list)
        applied = InboxEvent.objects.filter(event_id__in=[step.event_id for step in steps])
        for event_id, group in applied.values_list("event_id", "consumer_group").order_by("consumer_group"):
            groups[event_id].append(group)
        columns.append("Applied by")
        rows = [(*row, text(", ".join(groups[step.event_id]))) for row, step in zip(rows, steps, strict=True)]
    return Table("Timeline", columns, rows, empty="Nothing.")


def trouble(request: HttpRequest, order: Order) -> Iterator[Table]:
    """Return what could not be applied of the order's events, and what waits behind it."""
    key = str(order.pk).encode()
    if request.user.has_perm("outbox.view_failedmessage"):
        letters = list(of_key(FailedMessage, key).order_by("-id").defer("value", "headers")[: TROUBLE_SHOWN + 1])
        yield Table(
            "Failed messages",
            ["Message", "Status", "Group", "Event", "Error", "Failed at"],
            [
                (
                    row_link("outbox_failedmessage", letter.pk, letter.pk),
                    letter.get_status_display(),
                    letter.consumer_group,
                    letter.event_type or "unreadable",
                    text(in_short(letter)),
                    letter.created_at,
                )
                for letter in letters[:TROUBLE_SHOWN]
            ],
            note=f"The newest {TROUBLE_SHOWN}." if len(letters) > TROUBLE_SHOWN else "",
        )
    if request.user.has_perm("outbox.view_parkedevent"):
        parked = list(of_key(ParkedEvent, key).order_by("id").defer("value", "headers")[: TROUBLE_SHOWN + 1])
        yield Table(
            "Parked behind a failed message",
            ["Event", "Group", "Parked at"],
            [
                (
                    row_link("outbox_parkedevent", event.pk, event.event_type),
                    event.consumer_group,
                    event.parked_at,
                )
                for event in parked[:TROUBLE_SHOWN]
            ],
            note=f"The first {TROUBLE_SHOWN}." if len(parked) > TROUBLE_SHOWN else "",
        )


def told(details: dict[str, Any]) -> str:
    """Return the details of a step for a person."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in details.items())


@tells_of_event
def orders_of_event(request: HttpRequest, event_id: UUID) -> Iterator[SafeString]:
    """Lead from an event back to the order in whose timeline it stands."""
    if request.user.has_perm("orders.view_order"):
        for order_id in Step.objects.filter(event_id=event_id).values_list("order_id", flat=True):
            yield row_link("orders_order", order_id, f"Order {order_id}")


@admin.register(Line)
class LineAdmin(ReadOnly, ShopAdmin):
    list_display = ("id", "sku", "name", "quantity", "unit_price", "order")
    fields = ("sku", "name", "quantity", "unit_price", "of_order")
    list_filter = ["order__status", "order__created_at"]
    list_select_related = ["order"]
    search_fields = ["sku", "name"]
    search_ids = ["order__id"]
    ordering = ["-id"]

    @admin.display(description="order")
    def of_order(self, line: Line) -> SafeString:
        return row_link("orders_order", line.order_id, line.order_id)


class StepFilter(EventTypeFilter):
    """Offers what stands in timelines: what orders tell, and what is told to them."""

    def declared(self) -> set[str]:
        return {cls.type for cls in event_classes if cls.topic == ORDER} | handlers_of("orders").keys()


@admin.register(Step)
class StepAdmin(ReadOnly, ShopAdmin):
    list_display = ("at", "event_type", "order", "details", "event_id")
    fields = ("at", "event_type", "of_order", "details", "event")
    list_filter = [StepFilter, "at"]
    list_select_related = ["order"]
    search_ids = ["order__id", "event_id"]
    ordering = ["-id"]

    @admin.display(description="order")
    def of_order(self, step: Step) -> SafeString:
        return row_link("orders_order", step.order_id, step.order_id)

    @admin.display(description="event id")
    def event(self, step: Step) -> SafeString | None:
        return event_link(step.event_id)
