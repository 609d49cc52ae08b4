"""What changes orders, and what it refuses."""

from datetime import timedelta
from decimal import Decimal
from functools import partial

import pgtrigger
import pytest
from django.db import IntegrityError, ProgrammingError, transaction
from django.utils import timezone
from uuid_utils.compat import uuid7

import stock.services
from orders import events, services, tasks
from orders.events import OrderCancelled, OrderCreated
from orders.models import Line, Order, Step
from orders.services import AlreadyCancelled, CancelWindowClosed, Fact, UnknownOrder
from stock.events import StockReserved
from stock.services import UnknownSku


def steps(order):
    return [step.event_type for step in order.steps.all()]


@pytest.mark.django_db
class TestPlace:
    def test_makes_an_order_at_the_present_prices(self, order, customer, settings):
        order.refresh_from_db()
        assert (order.customer, order.status, order.cancel_reason) == (customer, Order.Status.PENDING, None)
        assert (order.total, order.discount, order.currency) == (Decimal("25.50"), 0, settings.CURRENCY)
        assert order.deadline_at - order.created_at == timedelta(seconds=settings.ORDER_STOCK_TIMEOUT_SECONDS)
        assert list(order.lines.values_list("sku", "name", "quantity", "unit_price")) == [
            ("A1", "The A1", 2, Decimal("10.00")),
            ("B2", "The B2", 1, Decimal("5.50")),
        ]

    def test_tells_of_it_and_begins_the_timeline(self, order, outbox):
        [event] = outbox.events
        assert event == OrderCreated(
            order_id=order.id,
            customer_id=order.customer_id,
            lines=[
                events.Line(sku="A1", quantity=2, unit_price=Decimal("10.00")),
                events.Line(sku="B2", quantity=1, unit_price=Decimal("5.50")),
            ],
            total=Decimal("25.50"),
            currency="USD",
        )
        step = Step.objects.get()
        assert (step.event_type, step.event_id) == (event.type, event.event_id)
        assert step.details == {"total": "25.50", "currency": "USD"}

    def test_keeps_its_prices_when_the_products_change(self, order):
        stock.services.update_product(sku="A1", name="New", price=Decimal("99.00"))
        assert order.lines.get(sku="A1").unit_price == Decimal("10.00")

    def test_is_refused_when_a_sku_is_unknown(self, order, customer, rows):
        before = rows()
        with pytest.raises(UnknownSku, match="X9"):
            services.place(customer_id=customer.id, items={"A1": 1, "X9": 1})
        assert rows() == before

    def test_takes_the_dearest_order_that_there_can_be(self, customer):
        for number in range(100):
            stock.services.add_product(sku=f"D{number}", name="Dear", price=Decimal("9999999999.99"))
        order = services.place(customer_id=customer.id, items={f"D{number}": 1000 for number in range(100)})
        order.refresh_from_db()
        assert order.total == Decimal("9999999999.99") * 100_000


@pytest.mark.django_db
class TestCancel:
    @pytest.mark.parametrize("answered", [[], ["reserved"], ["reserved", "succeeded"]])
    def test_is_allowed_in_every_status_but_cancelled(self, order, answers, outbox, answered):
        answers.deliver(*answered)
        cancelled = services.cancel(order_id=order.id)
        order.refresh_from_db()
        assert (order.status, order.cancel_reason, order.deadline_at) == ("CANCELLED", "CUSTOMER", None)
        assert (cancelled.status, cancelled.cancel_reason) == (order.status, order.cancel_reason)
        assert outbox.published(OrderCancelled, reason="CUSTOMER").total == Decimal("25.50")
        assert order.steps.last().details == {"reason": "CUSTOMER", "total": "25.50", "currency": "USD"}

    def test_is_refused_the_second_time(self, order, rows):
        services.cancel(order_id=order.id)
        before = rows()
        with pytest.raises(AlreadyCancelled):
            services.cancel(order_id=order.id)
        assert rows() == before

    def test_of_a_completed_order_is_refused_when_its_window_has_closed(self, order, answers, settings):
        answers.deliver("reserved", "succeeded")
        order.refresh_from_db()
        closes_at = order.completed_at + timedelta(hours=settings.ORDER_CANCEL_WINDOW_HOURS)
        with pytest.raises(CancelWindowClosed):
            services.cancel(order_id=order.id, now=closes_at + timedelta(microseconds=1))
        assert services.cancel(order_id=order.id, now=closes_at).status == Order.Status.CANCELLED

    def test_of_an_order_that_is_not_completed_knows_no_window(self, order):
        assert services.cancel(order_id=order.id, now=order.created_at + timedelta(days=9)).cancel_reason == "CUSTOMER"

    def test_of_an_unknown_order_is_refused(self, db):
        with pytest.raises(Order.DoesNotExist):
            services.cancel(order_id=uuid7())


@pytest.mark.django_db
class TestDeadline:
    def test_cancels_what_waited_too_long_for_stock(self, order, outbox):
        assert services.cancel_overdue(now=order.deadline_at) == 0
        assert services.cancel_overdue(now=order.deadline_at + timedelta(microseconds=1)) == 1
        order.refresh_from_db()
        assert (order.status, order.cancel_reason) == ("CANCELLED", "TIMEOUT")
        outbox.published(OrderCancelled, order_id=order.id, reason="TIMEOUT")

    def test_cancels_what_waited_too_long_for_payment(self, order, answers, settings):
        settings.ORDER_PAYMENT_TIMEOUT_SECONDS = 10 * settings.ORDER_STOCK_TIMEOUT_SECONDS
        answers.deliver("reserved")
        assert services.cancel_overdue(now=order.deadline_at + timedelta(seconds=1)) == 0
        order.refresh_from_db()
        assert services.cancel_overdue(now=order.deadline_at + timedelta(seconds=1)) == 1

    @pytest.mark.parametrize("final", [["reserved", "succeeded"], ["rejected"]])
    def test_does_not_touch_what_is_final(self, order, answers, final, rows):
        answers.deliver(*final)
        before = rows()
        assert services.cancel_overdue(now=timezone.now() + timedelta(days=99)) == 0
        assert rows() == before

    def test_the_sweep_of_a_second_time_cancels_nothing(self, order, rows):
        late = order.deadline_at + timedelta(seconds=1)
        services.cancel_overdue(now=late)
        before = rows()
        assert services.cancel_overdue(now=late) == 0
        assert rows() == before

    def test_a_sweep_takes_the_longest_overdue_first_and_no_more_than_its_limit(self, order, customer, monkeypatch):
        later = services.place(customer_id=customer.id, items={"A1": 1})
        monkeypatch.setattr(services, "SWEEP_LIMIT", 1)
        assert services.cancel_overdue(now=later.deadline_at + timedelta(seconds=1)) == 1
        later.refresh_from_db()
        assert later.status == Order.Status.PENDING

    def test_the_task_goes_by_the_present_time(self, order):
        tasks.cancel_overdue()
        order.refresh_from_db()
        assert order.status == Order.Status.PENDING
        Order.objects.update(deadline_at=timezone.now())
        tasks.cancel_overdue()
        order.refresh_from_db()
        assert order.status == Order.Status.CANCELLED


@pytest.mark.django_db
class TestFacts:
    def test_about_an_unknown_order_are_refused_whole(self, order, rows):
        facts = [Fact.of(StockReserved(order_id=order_id)) for order_id in (order.id, uuid7())]
        before = rows()
        with pytest.raises(UnknownOrder, match=str(facts[1].order_id)):
            services.ask_for_payment(facts=facts)
        assert rows() == before

    def test_about_many_orders_ask_the_database_as_often_as_about_one(
        self, order, customer, django_assert_max_num_queries
    ):
        orders = [services.place(customer_id=customer.id, items={"A1": 1, "B2": 1}) for _ in range(20)]
        facts = [Fact.of(StockReserved(order_id=order.id)) for order in orders]
        with django_assert_max_num_queries(8):
            services.ask_for_payment(facts=facts)
        with django_assert_max_num_queries(9):
            services.complete(facts=facts)
        assert {order.status for order in Order.objects.filter(pk__in=[order.id for order in orders])} == {"COMPLETED"}


@pytest.mark.django_db
class TestDatabase:
    @pytest.mark.parametrize(
        ("values", "constraint"),
        [
            ({"cancel_reason": "CUSTOMER"}, "order_cancel_reason_iff_cancelled"),
            ({"status": "CANCELLED", "deadline_at": None}, "order_cancel_reason_iff_cancelled"),
            (
                {"status": "CANCELLED", "deadline_at": None, "cancel_reason": "WEATHER"},
                "order_cancel_reason_iff_cancelled",
            ),
            ({"deadline_at": None}, "order_deadline_unless_final"),
            ({"status": "LOST"}, "order_deadline_unless_final"),
            ({"status": "COMPLETED", "deadline_at": None}, "order_completed_at_if_completed"),
            ({"total": Decimal("-0.01")}, "order_amounts_not_negative"),
        ],
    )
    def test_refuses_an_order_that_cannot_be(self, order, values, constraint):
        with pgtrigger.ignore(), pytest.raises(IntegrityError, match=constraint), transaction.atomic():
            Order.objects.update(**values)

    @pytest.mark.parametrize(
        ("names", "values"),
        [
            ([], {"status": "COMPLETED", "completed_at": timezone.now(), "deadline_at": None}),
            (["reserved"], {"status": "PENDING"}),
            (["reserved", "succeeded"], {"status": "PENDING", "deadline_at": timezone.now()}),
            (["reserved", "succeeded"], {"status": "AWAITING_PAYMENT", "deadline_at": timezone.now()}),
            (["rejected"], {"status": "PENDING", "deadline_at": timezone.now(), "cancel_reason": None}),
            (["rejected"], {"status": "COMPLETED", "completed_at": timezone.now(), "cancel_reason": None}),
        ],
    )
    def test_lets_a_status_go_only_forward(self, order, answers, names, values):
        answers.deliver(*names)
        with pytest.raises(ProgrammingError, match="Invalid transition"):
            Order.objects.update(**values)

    @pytest.mark.parametrize("quantity", [0, 1001])
    def test_refuses_a_quantity_out_of_range(self, order, quantity):
        with pytest.raises(IntegrityError, match="line_quantity_in_range"):
            Line.objects.update(quantity=quantity)


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    @pytest.fixture
    def late(self, order, answers):
        """Past the deadline of the order, which waits for payment."""
        answers.deliver("reserved")
        order.refresh_from_db()
        return order.deadline_at + timedelta(seconds=1)

    def test_a_payment_that_waits_for_a_cancel_finds_the_order_cancelled(self, order, answers, late, overtake):
        overtake(partial(services.cancel, order_id=order.id), partial(answers.deliver, "succeeded"))
        order.refresh_from_db()
        assert (order.status, order.cancel_reason) == ("CANCELLED", "CUSTOMER")
        assert steps(order)[-2:] == ["order.cancelled", "payment.succeeded"]

    def test_a_cancel_that_waits_for_a_payment_cancels_the_completed_order(self, order, answers, late, overtake):
        overtake(partial(answers.deliver, "succeeded"), partial(services.cancel, order_id=order.id))
        assert steps(order)[-3:] == ["payment.succeeded", "order.completed", "order.cancelled"]

    def test_a_cancel_that_waits_for_a_payment_may_meet_a_closed_window(self, order, answers, late, overtake):
        cancel = partial(services.cancel, order_id=order.id, now=late + timedelta(days=9))
        assert isinstance(overtake(partial(answers.deliver, "succeeded"), cancel), CancelWindowClosed)
        assert steps(order)[-1] == "order.completed"

    def test_a_payment_that_waits_for_a_sweep_finds_the_order_cancelled(self, order, answers, late, overtake):
        overtake(partial(services.cancel_overdue, now=late), partial(answers.deliver, "succeeded"))
        order.refresh_from_db()
        assert (order.status, order.cancel_reason) == ("CANCELLED", "TIMEOUT")
        assert steps(order)[-2:] == ["order.cancelled", "payment.succeeded"]

    def test_a_sweep_passes_over_an_order_that_somebody_holds(self, order, late, overtake):
        sweep = partial(services.cancel_overdue, now=late)
        assert overtake(partial(Order.objects.lock, [order.id]), sweep) == 0
        assert sweep() == 1

    def test_of_many_cancels_one_is_taken(self, order, at_once, outbox):
        outcomes = at_once(*[partial(services.cancel, order_id=order.id)] * 6)
        assert sum(isinstance(outcome, Order) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, AlreadyCancelled) for outcome in outcomes) == 5
        assert outbox.types == ["order.created", "order.cancelled"]

    def test_two_sweeps_share_the_work(self, order, customer, at_once, outbox):
        orders = [services.place(customer_id=customer.id, items={"A1": 1}) for _ in range(10)]
        sweep = partial(services.cancel_overdue, now=orders[-1].deadline_at + timedelta(seconds=1))
        assert sum(at_once(sweep, sweep)) + sweep() == 11
        assert outbox.types.count("order.cancelled") == 11

    def test_one_payment_told_of_in_four_places_completes_once(self, order, answers, at_once, outbox):
        answers.deliver("reserved")
        facts = [Fact.of(answers.events["succeeded"])]
        assert at_once(*[partial(services.complete, facts=facts)] * 4) == [None] * 4
        assert outbox.types == ["order.created", "order.reserved", "order.completed"]
        assert steps(order).count("payment.succeeded") == 1


@pytest.mark.django_db(transaction=True)
class TestCrashBeforeCommit:
    @pytest.mark.parametrize(
        "write",
        [
            lambda order: services.place(customer_id=order.customer_id, items={"A1": 1}),
            lambda order: services.cancel(order_id=order.id),
            lambda order: services.cancel_overdue(now=order.deadline_at + timedelta(seconds=1)),
        ],
        ids=["place", "cancel", "cancel_overdue"],
    )
    def test_leaves_nothing(self, order, outbox, rows, write):
        before = rows()
        outbox.crash(partial(write, order))
        assert rows() == before
