"""What moves money, and what it refuses."""

from decimal import Decimal
from functools import partial

import pytest
from django.db import IntegrityError, ProgrammingError, connection
from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts.models import User
from payments import services
from payments.events import PaymentFailed, PaymentRefunded, PaymentSucceeded
from payments.models import Entry, Payment, Wallet
from payments.services import CaptureRequest, RefundRequest


def balance(user):
    return Wallet.objects.get(pk=user.pk).balance


def capture(user, amount, order_id=None, currency="USD"):
    """Capture for an order, a new one if none is given, and return its id."""
    order_id = order_id or uuid7()
    services.capture(requests=[CaptureRequest(order_id, user.id, Decimal(amount), currency)])
    return order_id


def refund(user, order_id):
    services.refund(requests=[RefundRequest(order_id, user.id, "USD")])


@pytest.fixture
def rich(customer):
    """A customer with 100.00."""
    services.deposit(user_id=customer.id, amount=Decimal("100.00"))
    return customer


@pytest.mark.django_db
class TestDeposit:
    def test_makes_the_wallet_when_it_is_first_needed(self, customer, settings):
        assert Wallet.objects.of(customer.id).balance == 0
        assert not Wallet.objects.exists()
        entry = services.deposit(user_id=customer.id, amount=Decimal("5.00"))
        assert (entry.kind, entry.amount, entry.order_id) == (Entry.Kind.DEPOSIT, Decimal("5.00"), None)
        assert Wallet.objects.of(customer.id).balance == Decimal("5.00")
        assert Wallet.objects.get().currency == settings.CURRENCY

    def test_adds_up_beyond_the_largest_single_deposit(self, customer):
        for _ in range(3):
            services.deposit(user_id=customer.id, amount=Decimal("9999999999.99"))
        assert balance(customer) == Decimal("29999999999.97")

    @pytest.mark.parametrize("amount", ["0.00", "-1.00"])
    def test_of_nothing_is_refused_by_the_database(self, rich, amount):
        with pytest.raises(IntegrityError, match="entry_fits_its_kind"):
            services.deposit(user_id=rich.id, amount=Decimal(amount))


@pytest.mark.django_db
class TestCapture:
    def test_takes_the_amount_and_tells(self, rich, outbox):
        order_id = capture(rich, "30.00")
        assert balance(rich) == Decimal("70.00")
        assert [entry.amount for entry in Entry.objects.of(rich.id)] == [Decimal("-30.00"), Decimal("100.00")]
        payment = Payment.objects.get(pk=order_id)
        assert (payment.status, payment.captured) == (Payment.Status.SUCCEEDED, Decimal("30.00"))
        told = PaymentSucceeded(order_id=order_id, customer_id=rich.id, amount=Decimal("30.00"), currency="USD")
        assert outbox.events == [told]

    def test_takes_nothing_when_there_is_not_enough(self, rich, outbox):
        order_id = capture(rich, "100.01")
        assert balance(rich) == Decimal("100.00")
        assert Payment.objects.get(pk=order_id).status == Payment.Status.FAILED
        outbox.published(PaymentFailed, order_id=order_id, amount=Decimal("100.01"), reason="insufficient_funds")

    def test_of_nothing_succeeds_without_a_wallet_and_an_entry(self, customer, outbox):
        order_id = capture(customer, "0.00")
        payment = Payment.objects.get(pk=order_id)
        assert (payment.status, payment.provider, payment.due_at) == (Payment.Status.SUCCEEDED, "", None)
        told = PaymentSucceeded(order_id=order_id, customer_id=customer.id, amount=Decimal("0.00"), currency="USD")
        assert outbox.events == [told]
        refund(customer, order_id)
        assert Payment.objects.get(pk=order_id).status == Payment.Status.REFUNDED
        assert outbox.events == [told]
        assert not Entry.objects.exists()

    def test_of_nothing_beside_others_takes_what_they_ask_for(self, rich, outbox):
        requests = [CaptureRequest(uuid7(), rich.id, Decimal(amount), "USD") for amount in ("0.00", "30.00", "0.00")]
        services.capture(requests=requests)
        services.refund(requests=[RefundRequest(request.order_id, rich.id, "USD") for request in requests])
        assert balance(rich) == Decimal("100.00")
        assert outbox.types == [*["payment.succeeded"] * 3, "payment.refunded"]

    def test_takes_the_last_cent(self, rich):
        capture(rich, "100.00")
        assert balance(rich) == 0

    def test_fails_for_a_customer_who_never_had_a_wallet(self, customer, outbox):
        capture(customer, "1.00")
        outbox.published(PaymentFailed, reason="insufficient_funds", currency="USD")
        assert not Wallet.objects.exists()

    def test_serves_the_requests_of_a_batch_in_their_order(self, rich, outbox):
        services.capture(
            requests=[
                CaptureRequest(uuid7(), rich.id, Decimal(amount), "USD") for amount in ("60.00", "60.00", "40.00")
            ]
        )
        assert outbox.types == ["payment.succeeded", "payment.failed", "payment.succeeded"]
        assert balance(rich) == 0

    def test_serves_an_order_that_stands_twice_in_a_batch_once(self, rich, outbox):
        request = CaptureRequest(uuid7(), rich.id, Decimal("30.00"), "USD")
        services.capture(requests=[request, request])
        assert balance(rich) == Decimal("70.00")
        assert len(outbox.events) == 1

    def test_does_not_try_a_failed_payment_again(self, customer, rows):
        order_id = capture(customer, "1.00")
        services.deposit(user_id=customer.id, amount=Decimal("5.00"))
        before = rows()
        capture(customer, "1.00", order_id)
        assert rows() == before

    def test_asks_the_database_as_often_for_many_orders_as_for_one(self, rich, django_assert_max_num_queries):
        with django_assert_max_num_queries(10):
            services.capture(requests=[CaptureRequest(uuid7(), rich.id, Decimal("1.00"), "USD") for _ in range(50)])


@pytest.mark.django_db
class TestRefund:
    def test_gives_back_what_was_taken_and_tells(self, rich, outbox):
        order_id = capture(rich, "30.00")
        refund(rich, order_id)
        assert balance(rich) == Decimal("100.00")
        payment = Payment.objects.get(pk=order_id)
        assert (payment.status, payment.captured, payment.refunded) == ("REFUNDED", Decimal("30.00"), Decimal("30.00"))
        told = PaymentRefunded(order_id=order_id, customer_id=rich.id, amount=Decimal("30.00"), currency="USD")
        assert outbox.events[1:] == [told]

    def test_of_a_failed_payment_gives_nothing(self, rich, rows):
        order_id = capture(rich, "100.01")
        before = rows()
        refund(rich, order_id)
        assert rows() == before

    def test_before_the_capture_leaves_a_mark_and_tells_nothing(self, rich, outbox):
        order_id = uuid7()
        refund(rich, order_id)
        assert Payment.objects.get(pk=order_id).status == Payment.Status.CANCELLED
        assert outbox.events == []

    def test_of_several_orders_of_a_customer_adds_up(self, rich):
        orders = [capture(rich, "30.00"), capture(rich, "20.00")]
        services.refund(
            requests=[RefundRequest(order_id, rich.id, "USD") for order_id in [*orders, orders[0], uuid7()]]
        )
        assert balance(rich) == Decimal("100.00")


@pytest.mark.django_db
class TestDatabase:
    def test_refuses_a_negative_balance(self, rich):
        with pytest.raises(IntegrityError, match="wallet_balance_not_negative"):
            Wallet.objects.update(balance=Decimal("-0.01"))

    @pytest.mark.parametrize(
        "values",
        [
            {"captured": Decimal("29.00")},
            {"refunded": Decimal("30.00")},
            {"status": "REFUNDED"},
            {"due_at": timezone.now()},
            {"status": "REFUNDING"},
        ],
    )
    def test_refuses_a_payment_that_belies_its_status(self, rich, values):
        capture(rich, "30.00")
        with pytest.raises(IntegrityError, match=r"payment_amounts_fit_status|payment_due_unless_settled"):
            Payment.objects.update(**values)

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE payments_payment SET status = 'SUCCEEDED', refunded = 0",
            "UPDATE payments_payment SET status = 'REFUNDING', refunded = 0, due_at = now()",
            "UPDATE payments_payment SET status = 'PENDING', captured = 0, refunded = 0, due_at = now()",
            "UPDATE payments_payment SET status = 'LOST'",
            "UPDATE payments_payment SET amount = 20, captured = 20, refunded = 20",
            "UPDATE payments_payment SET currency = 'EUR'",
            "UPDATE payments_payment SET user_id = gen_random_uuid()",
            "UPDATE payments_payment SET provider = 'another'",
            "DELETE FROM payments_payment",
            "UPDATE payments_wallet SET currency = 'EUR'",
            "UPDATE payments_entry SET amount = 31 WHERE kind = 'REFUND'",
            "DELETE FROM payments_entry",
        ],
    )
    def test_lets_nobody_do_again_or_rewrite_what_is_done(self, rich, statement):
        order_id = capture(rich, "30.00")
        refund(rich, order_id)
        with pytest.raises(ProgrammingError, match=r"pgtrigger: (Invalid transition|Cannot update|Cannot delete)"):
            connection.cursor().execute(statement)

    @pytest.mark.parametrize(("kind", "amount"), [("CAPTURE", "-30.00"), ("REFUND", "30.00")])
    def test_takes_each_kind_of_entry_once_for_an_order(self, rich, kind, amount):
        order_id = capture(rich, "30.00")
        refund(rich, order_id)
        with pytest.raises(IntegrityError, match="entry_once_for_order"):
            Entry.objects.create(wallet_id=rich.id, kind=kind, amount=Decimal(amount), order_id=order_id)

    def test_takes_one_payment_for_an_order(self, rich):
        order_id = capture(rich, "30.00")
        with pytest.raises(IntegrityError, match="payments_payment_pkey"):
            Payment.objects.create(order_id=order_id, user_id=rich.id, amount=1, currency="USD", status="FAILED")

    @pytest.mark.parametrize(
        ("kind", "amount", "of_an_order"),
        [
            ("DEPOSIT", "-1.00", False),
            ("DEPOSIT", "1.00", True),
            ("CAPTURE", "1.00", True),
            ("CAPTURE", "-1.00", False),
            ("REFUND", "-1.00", True),
            ("REFUND", "1.00", False),
            ("GIFT", "1.00", False),
        ],
    )
    def test_refuses_an_entry_that_cannot_be(self, rich, kind, amount, of_an_order):
        order_id = uuid7() if of_an_order else None
        with pytest.raises(IntegrityError, match="entry_fits_its_kind"):
            Entry.objects.create(wallet_id=rich.id, kind=kind, amount=Decimal(amount), order_id=order_id)


@pytest.mark.django_db
class TestCurrency:
    """What there is when CURRENCY was changed: the wallet keeps its own."""

    def test_of_an_order_that_the_wallet_does_not_hold_fails_the_payment(self, rich, outbox):
        order_id = capture(rich, "30.00", currency="EUR")
        assert balance(rich) == Decimal("100.00")
        assert Payment.objects.get(pk=order_id).currency == "EUR"
        outbox.published(PaymentFailed, order_id=order_id, reason="currency_mismatch", currency="EUR")

    def test_that_is_new_does_not_mix_with_the_old_one_of_a_wallet(self, rich, settings, rows):
        settings.CURRENCY = "EUR"
        before = rows()
        with pytest.raises(services.WrongCurrency):
            services.deposit(user_id=rich.id, amount=Decimal("1.00"))
        assert rows() == before

    def test_of_what_was_taken_is_that_in_which_it_goes_back(self, rich, settings, outbox):
        order_id = capture(rich, "30.00")
        settings.CURRENCY = "EUR"
        refund(rich, order_id)
        assert balance(rich) == Decimal("100.00")
        outbox.published(PaymentRefunded, currency="USD")


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_the_last_money_goes_to_one_of_two_orders(self, rich, at_once):
        for _ in range(10):
            orders = at_once(partial(capture, rich, "60.00"), partial(capture, rich, "60.00"))
            payments = Payment.objects.filter(pk__in=orders)
            assert sorted(payment.status for payment in payments) == ["FAILED", "SUCCEEDED"]
            for order_id in orders:
                refund(rich, order_id)
        assert balance(rich) == Decimal("100.00")

    def test_no_deposit_is_lost_beside_captures(self, rich, at_once):
        def deposit():
            for _ in range(20):
                services.deposit(user_id=rich.id, amount=Decimal("3.00"))

        def captures():
            for _ in range(20):
                capture(rich, "1.00")

        assert at_once(deposit, captures, deposit, captures) == [None] * 4
        assert balance(rich) == Decimal("180.00")

    def test_two_first_deposits_make_one_wallet(self, customer, at_once):
        deposit = partial(services.deposit, user_id=customer.id, amount=Decimal("1.00"))
        at_once(*[deposit] * 6)
        assert balance(customer) == Decimal("6.00")

    def test_two_refunds_of_an_order_give_back_once(self, rich, at_once, outbox):
        order_id = capture(rich, "30.00")
        assert at_once(*[partial(refund, rich, order_id)] * 4) == [None] * 4
        assert balance(rich) == Decimal("100.00")
        assert outbox.types == ["payment.succeeded", "payment.refunded"]

    def test_batches_that_name_the_same_customers_in_another_order_do_not_deadlock(self, rich, at_once):
        other = User.objects.create_user("dave", "dave@example.com")
        services.deposit(user_id=other.id, amount=Decimal("100.00"))

        def batches(customers):
            for _ in range(20):
                services.capture(
                    requests=[CaptureRequest(uuid7(), user.id, Decimal("1.00"), "USD") for user in customers]
                )

        assert at_once(partial(batches, [rich, other]), partial(batches, [other, rich])) == [None, None]
        assert (balance(rich), balance(other)) == (Decimal("60.00"), Decimal("60.00"))


@pytest.mark.django_db(transaction=True)
class TestCrashBeforeCommit:
    @pytest.mark.parametrize(
        "write",
        [
            lambda user, order_id: services.deposit(user_id=user.id, amount=Decimal("1.00")),
            lambda user, order_id: capture(user, "1.00"),
            lambda user, order_id: capture(user, "1000.00"),
            refund,
            lambda user, order_id: refund(user, uuid7()),
        ],
        ids=["deposit", "capture", "fail", "refund", "refund_before_capture"],
    )
    def test_leaves_nothing(self, rich, outbox, rows, write):
        order_id = capture(rich, "30.00")
        before = rows()
        outbox.crash(partial(write, rich, order_id))
        assert rows() == before
