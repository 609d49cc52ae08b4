"""A coupon on an order: spent with it, given back with it, once, whoever comes first or twice."""

from datetime import timedelta
from decimal import Decimal
from functools import partial

import pytest
from django.db import IntegrityError
from django.utils import timezone

import orders.services
import payments.services
import stock.services
from coupons import services
from coupons.models import Coupon, IssuedCoupon
from orders import audit
from orders.events import OrderCancelled
from orders.models import Order
from outbox.testing import STEPS
from payments.models import Entry, Payment, Wallet

ORDERS = "/api/v1/orders/"


@pytest.fixture
def holder(coupon, customer, queued):
    """A customer with the coupon, 30.00, and a shop that sells A1 for 10.00."""
    stock.services.add_product(sku="A1", name="The A1", price=Decimal("10.00"))
    stock.services.receive(sku="A1", quantity=100)
    payments.services.deposit(user_id=customer.pk, amount=Decimal("30.00"))
    services.decide(request_ids=[request.pk for request in queued(customer)])
    return customer


def place(user, units=2, code="TEN"):
    return orders.services.place(customer_id=user.pk, items={"A1": units}, coupon_code=code)


def spent_on():
    return IssuedCoupon.objects.get().spent_on


def cancelled(order):
    return OrderCancelled(
        order_id=order.pk, customer_id=order.customer_id, reason="CUSTOMER", total=order.total, currency="USD"
    )


@pytest.mark.django_db
class TestSpending:
    def test_takes_its_share_off_the_order(self, holder, outbox):
        order = place(holder)
        assert (order.total, order.discount) == (Decimal("18.00"), Decimal("2.00"))
        assert spent_on() == order.pk
        assert outbox.events[-1].total == Decimal("18.00")

    def test_is_spent_once(self, holder):
        place(holder)
        with pytest.raises(services.CouponSpent):
            place(holder)
        assert Order.objects.count() == 1

    def test_is_spent_on_one_order_only(self, holder, coupon, people, queued):
        place(holder)
        other = queued(*people(1))[0]
        with pytest.raises(IntegrityError, match="spent_on"):
            IssuedCoupon.objects.create(
                coupon=coupon, user=other.user, request=other, spent_on=spent_on(), spent_at=timezone.now()
            )

    def test_somebody_elses_is_unknown(self, holder, staff):
        with pytest.raises(services.UnknownCoupon):
            place(staff)

    @pytest.mark.parametrize(
        ("rules", "refusal"),
        [
            ({"is_enabled": False}, services.CouponDisabled),
            ({"ends_at": timezone.now() - timedelta(seconds=1)}, services.CouponEnded),
            ({"minimum_total": Decimal("20.01")}, services.BelowMinimumTotal),
        ],
    )
    def test_what_its_rules_forbid_is_refused_and_leaves_it(self, holder, rows, rules, refusal):
        Coupon.objects.update(**rules)
        before = rows()
        with pytest.raises(refusal):
            place(holder)
        assert rows() == before

    def test_an_order_that_is_refused_leaves_it(self, holder, rows):
        before = rows()
        with pytest.raises(stock.services.UnknownSku):
            orders.services.place(customer_id=holder.pk, items={"X9": 1}, coupon_code="TEN")
        assert rows() == before

    def test_the_total_before_the_discount_is_what_the_minimum_is_of(self, holder):
        Coupon.objects.update(minimum_total=Decimal("20.00"))
        assert place(holder).discount == Decimal("2.00")


@pytest.mark.django_db
class TestOverHTTP:
    def test_an_order_tells_its_discount(self, api, holder):
        body = {"items": [{"sku": "A1", "quantity": 2}], "coupon_code": "ten"}
        order = api(holder).post(ORDERS, body).json()
        assert (order["total"], order["discount"]) == ("18.00", "2.00")

    @pytest.mark.parametrize(
        ("rules", "expected"),
        [
            ({"is_enabled": False}, (409, "coupon_disabled")),
            ({"ends_at": timezone.now() - timedelta(seconds=1)}, (409, "coupon_ended")),
            ({"minimum_total": Decimal("20.01")}, (400, "below_minimum_total")),
        ],
    )
    def test_tells_why_not(self, api, holder, problem, rules, expected):
        Coupon.objects.update(**rules)
        answer = api(holder).post(ORDERS, {"items": [{"sku": "A1", "quantity": 2}], "coupon_code": "TEN"})
        assert problem(answer) == expected

    def test_tells_that_it_is_spent_or_unknown(self, api, holder, problem):
        client = api(holder)
        body = {"items": [{"sku": "A1", "quantity": 1}]}
        place(holder)
        assert problem(client.post(ORDERS, {**body, "coupon_code": "TEN"})) == (409, "coupon_spent")
        assert problem(client.post(ORDERS, {**body, "coupon_code": "NONE"})) == (400, "unknown_coupon")
        assert problem(client.post(ORDERS, {**body, "coupon_code": None})) == (400, "invalid")

    def test_an_order_under_a_key_spends_it_once(self, api, holder):
        client = api(holder)
        body = {"items": [{"sku": "A1", "quantity": 2}], "coupon_code": "TEN"}
        first, again = (client.post(ORDERS, body, HTTP_IDEMPOTENCY_KEY="once") for _ in range(2))
        assert again.json() == first.json()
        assert Order.objects.count() == 1


@pytest.mark.django_db
class TestGivingBack:
    def test_a_cancelled_order_gives_it_back_once(self, holder, outbox, rows):
        first = place(holder)
        outbox.deliver("coupons", cancelled(first))
        assert spent_on() is None
        second = place(holder)
        before = rows()
        outbox.deliver("coupons", cancelled(first), times=2, forget=True)
        assert rows() == before
        assert spent_on() == second.pk

    def test_an_order_without_one_gives_nothing_back(self, holder, outbox, rows):
        order = place(holder)
        before = rows()
        outbox.deliver("coupons", cancelled(Order(customer=holder, total=order.total)))
        assert rows() == before

    @pytest.mark.django_db(transaction=True)
    def test_crashes_at_every_step_leave_the_effects_of_one_delivery(self, holder, outbox):
        order = place(holder)
        outbox.deliver("coupons", cancelled(order), crash_at=STEPS)
        assert spent_on() is None


@pytest.mark.django_db(transaction=True)
class TestSagas:
    def settled(self, outbox, **how):
        outbox.run_to_rest(**how)
        assert audit.find(now=timezone.now(), grace=timedelta()) == []

    def test_what_is_left_is_paid(self, holder, outbox):
        order = place(holder)
        self.settled(outbox)
        order.refresh_from_db()
        assert order.status == "COMPLETED"
        assert Wallet.objects.get().balance == Decimal("12.00")
        assert spent_on() == order.pk

    @pytest.mark.parametrize("is_free", [True, False])
    def test_a_cancel_gives_back_money_and_coupon(self, holder, outbox, is_free):
        Coupon.objects.update(percent_off=100 if is_free else 10)
        order = place(holder)
        self.settled(outbox)
        orders.services.cancel(order_id=order.pk)
        self.settled(outbox, seed=1, repeat=0.3)
        assert Wallet.objects.get().balance == Decimal("30.00")
        assert spent_on() is None
        assert Payment.objects.get().status == "REFUNDED"
        assert ("payment.refunded" in outbox.types) != is_free

    def test_an_order_that_costs_nothing_is_completed_without_an_entry(self, holder, outbox):
        Coupon.objects.update(percent_off=None, amount_off=Decimal("50.00"))
        order = place(holder)
        assert (order.total, order.discount) == (Decimal("0.00"), Decimal("20.00"))
        self.settled(outbox)
        order.refresh_from_db()
        assert order.status == "COMPLETED"
        assert Payment.objects.get().status == "SUCCEEDED"
        assert Entry.objects.count() == 1

    @pytest.mark.parametrize(("units", "reason"), [(101, "OUT_OF_STOCK"), (9, "PAYMENT_FAILED")])
    def test_an_order_that_comes_to_nothing_gives_it_back(self, holder, outbox, units, reason):
        order = place(holder, units)
        self.settled(outbox, seed=2, repeat=0.3)
        order.refresh_from_db()
        assert (order.status, order.cancel_reason) == ("CANCELLED", reason)
        assert spent_on() is None

    def test_of_two_orders_at_once_one_gets_it(self, holder, at_once, outbox):
        outcomes = at_once(*[partial(place, holder)] * 5)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == [*["CouponSpent"] * 4, "Order"]
        assert Order.objects.count() == 1
        self.settled(outbox)

    def test_a_use_that_meets_the_giving_back_waits_for_it_and_gets_the_coupon(self, holder, overtake):
        first = place(holder)
        second = overtake(partial(services.give_back, order_ids=[first.pk]), partial(place, holder))
        assert spent_on() == second.pk != first.pk

    def test_a_giving_back_that_meets_the_next_use_leaves_it(self, holder, overtake):
        first = place(holder)
        give_back = partial(services.give_back, order_ids=[first.pk])
        give_back()
        overtake(partial(place, holder), give_back)
        assert spent_on() == Order.objects.exclude(pk=first.pk).get().pk

    def test_a_crash_before_the_commit_leaves_it_unspent(self, holder, outbox, rows):
        before = rows()
        outbox.crash(partial(place, holder))
        assert rows() == before
