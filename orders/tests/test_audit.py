"""What the audit finds, and what it lets pass."""

import json
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from random import Random

import pgtrigger
import pytest
from django.core.management import CommandError, call_command
from django.db import InternalError, connection
from django.utils import timezone
from uuid_utils.compat import uuid7

import coupons.services
import payments.services
import stock.services
from coupons.models import Coupon, IssuedCoupon, Request
from orders import audit, services
from orders.events import OrderCancelled
from orders.models import Line, Order
from outbox.models import OutboxEvent
from payments.models import Entry, Payment, Wallet
from stock.models import Level, Movement, Reservation

# The audit needs a transaction of its own.
pytestmark = pytest.mark.django_db(transaction=True)

LONG_AGO = timezone.now() - timedelta(hours=1)


def run(*arguments):
    """Run the command; return whether it failed, and what it printed."""
    out = StringIO()
    try:
        call_command("audit", *arguments, stdout=out)
    except CommandError:
        return True, out.getvalue()
    return False, out.getvalue()


def checks_that_fail(now=None):
    findings = audit.find(now=now or timezone.now(), grace=timedelta(seconds=60))
    return {finding.check for finding in findings}


@pytest.fixture
def shop(order, customer, outbox):
    """One order completed, one cancelled after that, one out of stock, one not paid; all of it long ago."""
    payments.services.deposit(user_id=customer.id, amount=Decimal("60.00"))
    cancelled = services.place(customer_id=customer.id, items={"A1": 1})
    services.place(customer_id=customer.id, items={"B2": 100})
    services.place(customer_id=customer.id, items={"B2": 4, "A1": 2})
    outbox.run_to_rest()
    services.cancel(order_id=cancelled.id)
    outbox.run_to_rest()
    Order.objects.update(updated_at=LONG_AGO)
    Payment.objects.update(updated_at=LONG_AGO)
    Reservation.objects.update(updated_at=LONG_AGO)
    assert sorted(Order.objects.values_list("status", "cancel_reason")) == [
        ("CANCELLED", "CUSTOMER"),
        ("CANCELLED", "OUT_OF_STOCK"),
        ("CANCELLED", "PAYMENT_FAILED"),
        ("COMPLETED", None),
    ]
    return order


def test_finds_nothing_in_an_empty_shop():
    assert run("--strict") == (False, f"All {len(audit.CHECKS)} checks hold; 0 in flight.\n")


def test_finds_nothing_where_all_is_settled(shop):
    assert run("--strict", "--grace-seconds", "0")[0] is False


def forget_sale(order):
    """Stock never heard that the order was completed."""
    with pgtrigger.ignore():
        Reservation.objects.filter(order_id=order.id).update(status="HELD")
        Movement.objects.filter(order_id=order.id, kind="SOLD").delete()
    Level.objects.filter(pk="A1").update(on_hand=5, reserved=2)
    Level.objects.filter(pk="B2").update(on_hand=5, reserved=1)


def cancel_unheard(order):
    """Nobody heard that the order was cancelled."""
    Order.objects.filter(pk=order.id).update(status="CANCELLED", cancel_reason="CUSTOMER")


def forget_receipt(order):
    with pgtrigger.ignore():
        Movement.objects.filter(product="A1", kind="RECEIVED").delete()


def issue(user):
    """Let a user have the coupon TEN, by a request that succeeded."""
    asked = Request.objects.create(code="TEN", user=user, queue="KAFKA", status="SUCCESS", finished_at=timezone.now())
    IssuedCoupon.objects.create(coupon_id="TEN", user=user, request=asked)


def forget_movement(kind):
    def forget(order):
        with pgtrigger.ignore():
            Movement.objects.filter(order_id=order.id, product="A1", kind=kind).delete()

    return forget


def forget_payment(order):
    with pgtrigger.ignore():
        Payment.objects.filter(pk=order.id).delete()


def move_for_nobody(order):
    Movement.objects.create(product_id="A1", kind="RETURNED", quantity=1, order_id=uuid7())


def take_for_nobody(order):
    stock.services.reserve(requests=[stock.services.ReserveRequest(uuid7(), {"A1": 1})])


def pay_for_nobody(order):
    payments.services.deposit(user_id=order.customer_id, amount=Decimal("1.00"))
    request = payments.services.CaptureRequest(uuid7(), order.customer_id, Decimal("1.00"), "USD")
    payments.services.capture(requests=[request])


def lose_money(order):
    """An entry, its payment and its balance agree, but not with the order."""
    with pgtrigger.ignore():
        Entry.objects.filter(order_id=order.id).update(amount=Decimal("-20.00"))
        Payment.objects.filter(pk=order.id).update(amount=Decimal("20.00"), captured=Decimal("20.00"))
    Wallet.objects.update(balance=Decimal("40.00"))


MONEY = "captured - refunded = the order's total if completed, 0 if cancelled"
GOODS = "sold = the order's lines if completed, nothing taken if cancelled"
ON_HAND = "on hand = received - sold + returned"
LEDGER = "a reservation's movements tell what became of it"
ENTRIES = "captured - refunded = the order's entries if its wallet pays"
PAYMENT = "a payment is of its order's total, currency and customer"
LINES = "stock is taken for every line of an order, or for none"
SUM = "an order's lines come to its total and discount"
DISCOUNT = "a discount is what the coupon takes off that is spent on the order"
NOBODY = "money and stock are taken for orders that there are"


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda order: Level.objects.filter(pk="A1").update(on_hand=4), {ON_HAND}),
        (forget_receipt, {ON_HAND}),
        (forget_movement("RESERVED"), {LEDGER}),
        (forget_movement("SOLD"), {ON_HAND, LEDGER}),
        (move_for_nobody, {ON_HAND, LEDGER}),
        (lambda order: Level.objects.filter(pk="A1").update(reserved=1), {"reserved = open reservations"}),
        (
            lambda order: Level.objects.filter(pk="B2").delete(),
            {ON_HAND, "reserved = open reservations"},
        ),
        (lambda order: Wallet.objects.update(balance=1), {"balance = sum of entries"}),
        (forget_payment, {ENTRIES, MONEY}),
        (lose_money, {MONEY, PAYMENT}),
        (lambda order: Order.objects.filter(pk=order.id).update(currency="EUR"), {PAYMENT}),
        (lambda order: Order.objects.filter(pk=order.id).update(total=1), {MONEY, PAYMENT, SUM}),
        (lambda order: Line.objects.filter(order=order, sku="A1").update(quantity=1), {GOODS, LINES, SUM}),
        (lambda order: Line.objects.filter(order=order, sku="A1").delete(), {GOODS, LINES, SUM}),
        (lambda order: Order.objects.filter(pk=order.id).update(total=20, discount=1), {MONEY, PAYMENT, SUM, DISCOUNT}),
        (forget_sale, {GOODS}),
        (cancel_unheard, {MONEY, GOODS}),
        (take_for_nobody, {NOBODY}),
        (pay_for_nobody, {NOBODY}),
    ],
)
def test_names_what_is_off(shop, spoil, expected):
    spoil(shop)
    assert checks_that_fail() == expected
    failed, printed = run()
    assert failed
    for check in expected:
        assert f"{check}: " in printed


@pytest.fixture
def with_coupon(shop, customer, outbox):
    """An order on which a coupon is spent, long ago."""
    coupons.services.create(code="TEN", name="Ten off", quantity=2, percent_off=10)
    coupons.services.ask(user_id=customer.pk, code="TEN")
    payments.services.deposit(user_id=customer.pk, amount=Decimal("20.00"))
    outbox.run_to_rest()
    order = services.place(customer_id=customer.pk, items={"A1": 1}, coupon_code="TEN")
    outbox.run_to_rest()
    Order.objects.filter(pk=order.pk).update(updated_at=LONG_AGO)
    return order


COUNT = "a coupon's count = those that are issued"
REQUEST = "a request succeeded if it has its coupon"
THEIRS = "a coupon is spent on its user's order"
GIVEN_BACK = "a coupon is given back when its order is cancelled"


def fail_request(order):
    with pgtrigger.ignore():
        Request.objects.update(status="OUT_OF_STOCK")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda order: Coupon.objects.update(issued=0), {COUNT}),
        (lambda order: Coupon.objects.update(percent_off=20), {DISCOUNT}),
        (lambda order: IssuedCoupon.objects.update(spent_on=None, spent_at=None), {DISCOUNT}),
        (lambda order: IssuedCoupon.objects.update(spent_on=uuid7()), {DISCOUNT, THEIRS}),
        (lambda order: IssuedCoupon.objects.all().delete(), {COUNT, REQUEST, DISCOUNT}),
        (fail_request, {REQUEST}),
        (lambda order: Request.objects.update(code="OTHER"), {REQUEST}),
    ],
)
def test_names_what_is_off_about_coupons(with_coupon, spoil, expected):
    assert checks_that_fail() == set()
    spoil(with_coupon)
    assert checks_that_fail() == expected


def test_a_coupon_of_a_cancelled_order_is_in_flight_until_the_grace_is_over(with_coupon, outbox):
    services.cancel(order_id=with_coupon.pk)
    outbox.run_to_rest(groups=["stock", "payments", "orders"])
    assert run() == (False, f"in flight: 1 × {GIVEN_BACK}\nAll {len(audit.CHECKS)} checks hold; 1 in flight.\n")
    assert run("--strict")[0]
    Order.objects.filter(pk=with_coupon.pk).update(updated_at=LONG_AGO)
    assert checks_that_fail() == {GIVEN_BACK}
    outbox.deliver("coupons", outbox.published(OrderCancelled, order_id=with_coupon.pk))
    assert checks_that_fail() == set()


def test_a_request_that_waits_for_longer_than_the_grace_is_off(customer):
    asked = Request.objects.create(code="TEN", user=customer, queue="KAFKA", status="QUEUED")
    assert not run()[0]
    assert run("--strict")[0]
    Request.objects.filter(pk=asked.pk).update(created_at=LONG_AGO)
    assert run()[0]
    assert checks_that_fail() == {"a request for a coupon is answered"}


def test_a_coupon_that_is_spent_on_somebody_elses_order_is_off(with_coupon, staff):
    IssuedCoupon.objects.update(user=staff)
    Request.objects.update(user=staff)
    assert checks_that_fail() == {THEIRS}


def test_tells_of_what_what_was_expected_and_what_there_is(shop):
    Level.objects.filter(pk="A1").update(on_hand=4)
    assert run()[1] == "on hand = received - sold + returned: A1: expected 3, is 4\n"


@pytest.mark.parametrize("spoil", [forget_sale, cancel_unheard])
def test_what_spans_apps_is_in_flight_until_the_grace_is_over(shop, spoil):
    Order.objects.filter(pk=shop.id).update(updated_at=timezone.now() - timedelta(seconds=30))
    spoil(shop)
    failed, printed = run()
    assert not failed
    assert "in flight: " in printed
    assert run("--strict")[0]
    assert run("--grace-seconds", "20")[0]


def test_a_payment_that_was_settled_just_now_is_in_flight(shop):
    Order.objects.filter(pk=shop.id).update(status="CANCELLED", cancel_reason="TIMEOUT", updated_at=LONG_AGO)
    Payment.objects.filter(pk=shop.id).update(updated_at=timezone.now())
    findings = audit.find(now=timezone.now(), grace=timedelta(seconds=60))
    assert [finding.in_flight for finding in findings if finding.check == MONEY] == [True]


def test_goods_that_moved_just_now_are_in_flight(shop):
    Order.objects.filter(pk=shop.id).update(status="CANCELLED", cancel_reason="TIMEOUT", updated_at=LONG_AGO)
    Reservation.objects.filter(order_id=shop.id).update(updated_at=timezone.now())
    findings = audit.find(now=timezone.now(), grace=timedelta(seconds=60))
    assert [finding.in_flight for finding in findings if finding.check == GOODS] == [True, True]


def take_by_another(order):
    """Let it not have been the wallet that took the money."""
    with pgtrigger.ignore():
        Payment.objects.filter(pk=order.id).update(provider="another")


def test_what_a_provider_takes_has_no_entries(shop):
    with pgtrigger.ignore():
        Entry.objects.filter(order_id=shop.id).delete()
    Wallet.objects.update(balance=Decimal("60.00"))
    assert checks_that_fail() == {ENTRIES}
    take_by_another(shop)
    assert checks_that_fail() == set()


def test_what_a_provider_takes_from_wallets_agrees_with_their_entries(shop):
    take_by_another(shop)
    assert checks_that_fail() == set()
    with pgtrigger.ignore():
        Entry.objects.filter(order_id=shop.id).update(amount=Decimal("-20.00"))
    Wallet.objects.update(balance=Decimal("40.00"))
    assert checks_that_fail() == {ENTRIES}


def test_a_reservation_of_some_lines_is_off(order):
    stock.services.reserve(requests=[stock.services.ReserveRequest(order.id, {"A1": 2})])
    assert checks_that_fail() == {LINES}


def test_what_one_app_holds_is_off_however_young(shop):
    Order.objects.update(updated_at=timezone.now())
    Wallet.objects.update(balance=1)
    assert run("--grace-seconds", "3600")[0]


def test_an_order_past_its_deadline_is_off_after_the_grace(order):
    OutboxEvent.objects.all().delete()
    deadline = order.deadline_at
    assert checks_that_fail(now=deadline) == set()
    [finding] = audit.find(now=deadline + timedelta(seconds=59), grace=timedelta(seconds=60))
    assert (finding.subject, finding.in_flight) == (str(order.id), True)
    [finding] = audit.find(now=deadline + timedelta(seconds=61), grace=timedelta(seconds=60))
    assert (finding.actual, finding.in_flight) == ("PENDING", False)


def test_an_event_that_waits_too_long_in_the_outbox_is_off(order):
    OutboxEvent.objects.update(created_at=timezone.now() - timedelta(seconds=55))
    assert not run("--strict")[0]
    OutboxEvent.objects.update(created_at=timezone.now() - timedelta(seconds=65))
    failed, printed = run("--grace-seconds", "3600")
    assert failed
    assert f"order.created {OutboxEvent.objects.get().event_id}" in printed


@pytest.fixture
def unchecked(shop):
    """The tables as they would be without their constraints."""
    models = (Level, Wallet, Coupon, IssuedCoupon)
    checked = [(model, constraint) for model in models for constraint in model._meta.constraints]
    with connection.schema_editor() as editor:
        for model, constraint in checked:
            editor.remove_constraint(model, constraint)
    yield
    Level.objects.update(on_hand=0, reserved=0)
    Wallet.objects.update(balance=0)
    IssuedCoupon.objects.all().delete()
    Coupon.objects.all().delete()
    with connection.schema_editor() as editor:
        for model, constraint in checked:
            editor.add_constraint(model, constraint)


@pytest.mark.parametrize("values", [{"on_hand": -1}, {"reserved": -1}, {"reserved": 9}])
def test_stock_below_zero_is_off(unchecked, values):
    Level.objects.filter(pk="A1").update(**values)
    assert "stock is never below zero" in checks_that_fail()


def test_a_balance_below_zero_is_off(unchecked):
    Wallet.objects.update(balance=-1)
    assert "a balance is never below zero" in checks_that_fail()


def test_more_coupons_than_there_are_are_off(unchecked, customer, staff):
    Coupon.objects.create(code="TEN", name="Ten off", quantity=1, issued=2)
    for user in (customer, staff):
        issue(user)
    assert checks_that_fail() == {"no more of a coupon are issued than there are"}


def test_a_coupon_that_a_user_has_twice_is_off(unchecked, customer):
    Coupon.objects.create(code="TEN", name="Ten off", quantity=2, issued=2)
    for _ in range(2):
        issue(customer)
    assert checks_that_fail() == {"a user has a coupon once"}


def test_prints_json_for_programs(shop):
    cancel_unheard(shop)
    Wallet.objects.update(balance=1)
    Order.objects.update(updated_at=timezone.now())
    failed, printed = run("--json")
    report = json.loads(printed)
    assert failed
    assert report["ok"] is False
    assert report["findings"] == [
        {
            "check": "balance = sum of entries",
            "subject": str(shop.customer_id),
            "expected": "34.50",
            "actual": "1.00",
            "in_flight": False,
        }
    ]
    assert {finding["check"] for finding in report["in_flight"]} == {MONEY, GOODS}


def test_reads_one_moment_and_cannot_write(order, at_once):
    with audit.snapshot():
        assert Order.objects.count() == 1
        at_once(lambda: services.cancel(order_id=order.id))
        assert Order.objects.get().status == "PENDING"
    with pytest.raises(InternalError, match="read-only"), audit.snapshot():
        Order.objects.update(currency="EUR")


def act(chance, customer):
    """Do something that customers, staff and Celery do."""
    match chance.randrange(6):
        case 0 | 1 | 2:
            items = {sku: chance.randint(1, 3) for sku in chance.sample(["A1", "B2"], chance.randint(1, 2))}
            is_unspent = IssuedCoupon.objects.filter(spent_on=None).exists()
            services.place(customer_id=customer.id, items=items, coupon_code="TEN" if is_unspent else None)
        case 3:
            payments.services.deposit(user_id=customer.id, amount=Decimal(chance.randint(1, 40)))
        case 4:
            order = chance.choice(Order.objects.exclude(status="CANCELLED") or [None])
            if order:
                services.cancel(order_id=order.id)
        case 5:
            late = chance.choice([timedelta(), timedelta(seconds=600), timedelta(days=1)])
            services.cancel_overdue(now=timezone.now() + late)


@pytest.mark.parametrize("seed", range(10))
def test_all_holds_whatever_comes_twice_and_in_whichever_order(order, customer, outbox, seed):
    chance = Random(seed)
    coupons.services.create(code="TEN", name="Ten off", quantity=1, percent_off=chance.choice([10, 100]))
    coupons.services.ask(user_id=customer.pk, code="TEN")
    for _ in range(10):
        for _ in range(chance.randint(1, 6)):
            act(chance, customer)
        outbox.run_to_rest(seed=chance.randrange(1000), repeat=0.3, forget=True)
        assert audit.find(now=timezone.now(), grace=timedelta()) == []
