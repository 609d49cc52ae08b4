"""docs/saga.md, cell by cell: the state is brought about, the event comes, and what happens is what the table says."""

from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace

import pgtrigger
import pytest
from django.utils import timezone
from uuid_utils.compat import uuid7

import orders.services
import payments.services
import stock.services
from config.refusals import REFUSALS
from orders.events import Line, OrderCancelled, OrderCompleted, OrderCreated, OrderReserved
from orders.models import Order
from payments.events import PaymentFailed, PaymentRefunded, PaymentSucceeded
from payments.models import Payment
from stock.events import StockRejected, StockReleased, StockReserved
from stock.models import Release, Reservation
from tests.settings_source import CHECKOUT
from tests.test_docs import section

pytestmark = pytest.mark.django_db

SAGA = CHECKOUT / "docs/saga.md"


def cells(heading):
    """Return (what comes, state, what the table says) for each cell of the table below a heading."""
    lines = [line.strip("|").split("|") for line in section(SAGA, heading).splitlines() if line.startswith("|")]
    (_, *states), _, *rows = [[cell.strip() for cell in line] for line in lines]
    found = [(row[0], state, cell) for row in rows for state, cell in zip(states, row[1:], strict=True)]
    assert found
    return found


def in_words(*, before, after, told, noted=False):
    """Say what happened as the tables do."""
    return ", ".join([*([after] if after != before else []), *told]) or ("noted" if noted else "nothing")


@pytest.fixture
def shop(customer):
    """5 units of A1 for 10.00 each, and 100.00 in the customer's wallet."""
    stock.services.add_product(sku="A1", name="The A1", price=Decimal("10.00"))
    stock.services.receive(sku="A1", quantity=5)
    payments.services.deposit(user_id=customer.id, amount=Decimal("100.00"))


def told_of(order_id, customer, quantity=2, total="20.00", currency="USD"):
    """Return all events that there can be about an order, by type, each with an id of its own."""
    ids = {"order_id": order_id, "customer_id": customer.id}
    lines = [Line(sku="A1", quantity=quantity, unit_price=Decimal("10.00"))]
    amounts = {**ids, "amount": Decimal(total), "currency": currency}
    totals = {**ids, "total": Decimal(total), "currency": currency}
    events = [
        OrderCreated(**totals, lines=lines),
        OrderReserved(**amounts),
        OrderCompleted(**totals, lines=lines),
        OrderCancelled(**totals, reason="CUSTOMER"),
        StockReserved(order_id=order_id),
        StockRejected(order_id=order_id, short_skus=["A1"]),
        StockReleased(order_id=order_id),
        PaymentSucceeded(**amounts),
        PaymentFailed(**amounts, reason="insufficient_funds"),
        PaymentRefunded(**amounts),
    ]
    return {event.type: event for event in events}


class TestOrders:
    # What brings an order into a state.
    WAYS = {
        "PENDING": [],
        "AWAITING_PAYMENT": ["stock.reserved"],
        "COMPLETED": ["stock.reserved", "payment.succeeded"],
        "CANCELLED": ["stock.rejected"],
    }

    @pytest.mark.parametrize(("what", "state", "says"), [cell for cell in cells("Orders") if cell[2] != "–"])
    def test_what_comes_changes_an_order_as_the_table_says(self, shop, customer, outbox, what, state, says):
        order = Order(id=uuid7(), customer=customer)
        if state != "no order":
            order = orders.services.place(customer_id=customer.id, items={"A1": 2})
            for event_type in self.WAYS[state]:
                outbox.deliver("orders", told_of(order.id, customer)[event_type])
            assert self.state(order.id) == state
        count = len(outbox.types)
        try:
            event_id = self.let_come(what, order, customer, outbox)
        except Exception as error:
            happened = self.refusal(error)
            assert len(outbox.types) == count
        else:
            [last] = Order.objects.all()
            happened = in_words(
                before=state,
                after=self.state(last.id, with_reason=state != "CANCELLED"),
                told=outbox.types[count:],
                noted=last.steps.filter(event_id=event_id).count() == 1,
            )
        assert happened == says

    @staticmethod
    def state(order_id, with_reason=False):
        order = Order.objects.get(pk=order_id)
        return f"{order.status} ({order.cancel_reason})" if order.cancel_reason and with_reason else order.status

    @staticmethod
    def let_come(what, order, customer, outbox):
        """Let it come, and return the event's id if it is one."""
        now = timezone.now()
        match what:
            case "placed":
                orders.services.place(customer_id=customer.id, items={"A1": 2})
            case "cancel, within the window":
                orders.services.cancel(order_id=order.id, now=now)
            case "cancel, after the window":
                orders.services.cancel(order_id=order.id, now=now + timedelta(days=9))
            case "the deadline":
                orders.services.cancel_overdue(now=now + timedelta(days=9))
            case event_type:
                event = told_of(order.id, customer)[event_type]
                outbox.deliver("orders", event)
                return event.event_id
        return None

    @staticmethod
    def refusal(error):
        """Say what became of what raised."""
        if isinstance(error, orders.services.UnknownOrder):
            return "dead letter"
        if isinstance(error, Order.DoesNotExist):
            return "404 not_found"
        problem = REFUSALS[type(error)](error)
        return f"{problem.status} {problem.code}"


class TestStock:
    WAYS = {
        "no lines": [],
        "DECLINED": ["order.cancelled"],
        "HELD": ["order.created"],
        "SOLD": ["order.created", "order.completed"],
        "RELEASED": ["order.created", "order.cancelled"],
    }

    @pytest.mark.parametrize(("what", "state", "says"), cells("Stock"))
    def test_what_comes_changes_the_lines_of_an_order_as_the_table_says(
        self, shop, customer, outbox, what, state, says
    ):
        order_id = uuid7()
        for event_type in self.WAYS[state]:
            outbox.deliver("stock", told_of(order_id, customer)[event_type])
        assert self.state(order_id) == state
        count = len(outbox.types)
        event_type, _, how = what.partition(", ")
        quantity = 6 if how == "a line short" else 2
        outbox.deliver("stock", told_of(order_id, customer, quantity)[event_type])
        assert in_words(before=state, after=self.state(order_id), told=outbox.types[count:]) == says

    @staticmethod
    def state(order_id):
        line = Reservation.objects.filter(order_id=order_id).first()
        if line:
            return line.status
        return "DECLINED" if Release.objects.filter(pk=order_id).exists() else "no lines"


class TestWallet:
    WAYS = {
        "no payment": [],
        "SUCCEEDED": ["order.reserved, enough money"],
        "FAILED": ["order.reserved, too little money"],
        "REFUNDED": ["order.reserved, enough money", "order.cancelled"],
        "CANCELLED": ["order.cancelled"],
    }

    @pytest.mark.parametrize(("what", "state", "says"), cells("Payments from the wallet"))
    def test_what_comes_changes_a_payment_as_the_table_says(self, shop, customer, outbox, what, state, says):
        order_id = uuid7()
        for earlier in self.WAYS[state]:
            self.let_come(earlier, order_id, customer, outbox)
        assert self.state(order_id) == state
        count = len(outbox.types)
        self.let_come(what, order_id, customer, outbox)
        assert in_words(before=state, after=self.state(order_id), told=outbox.types[count:]) == says

    @staticmethod
    def let_come(what, order_id, customer, outbox):
        event_type, _, how = what.partition(", ")
        event = told_of(
            order_id,
            customer,
            total="100.01" if how == "too little money" else "20.00",
            currency="EUR" if how == "another currency" else "USD",
        )[event_type]
        outbox.deliver("payments", event)

    @staticmethod
    def state(order_id):
        payment = Payment.objects.filter(pk=order_id).first()
        return payment.status if payment else "no payment"


class TestProvider:
    WAYS = {
        "no payment": [],
        "PENDING, not asked": ["order.reserved"],
        "PENDING, asked": ["order.reserved", "the settler looks"],
        "CANCELLING": ["order.reserved", "the settler looks", "order.cancelled"],
        "SUCCEEDED": ["order.reserved", "the settler looks", "captured"],
        "FAILED": ["order.reserved", "the settler looks", "declined"],
        "REFUNDING": ["order.reserved", "the settler looks", "captured", "order.cancelled", "the settler looks"],
        "REFUNDED": ["order.reserved", "the settler looks", "captured", "order.cancelled", "given back"],
        "CANCELLED": ["order.cancelled"],
    }

    @pytest.mark.parametrize(
        ("what", "state", "says"),
        [cell for cell in cells("Payments by a provider that calls out") if cell[2] != "–"],
    )
    def test_what_comes_changes_a_payment_as_the_table_says(self, customer, outbox, settings, what, state, says):
        settings.PAYMENT_PROVIDER = "payments.tests.bank.BankProvider"
        order_id = uuid7()
        for earlier in self.WAYS[state]:
            self.let_come(earlier, order_id, customer, outbox)
        before = self.read(order_id)
        assert before.state == state
        count = len(outbox.types)
        self.let_come(what, order_id, customer, outbox)
        after = self.read(order_id)
        happened = in_words(before=state, after=after.state, told=outbox.types[count:])
        if happened == "nothing" and after.due_at != before.due_at:
            happened = "asked again"
        assert happened == says

    @staticmethod
    def let_come(what, order_id, customer, outbox):
        match what:
            case "the settler looks":
                payments.services.take_due(limit=10)
            case "captured":
                payments.services.record_capture(order_id=order_id)
            case "declined":
                payments.services.record_capture(order_id=order_id, declined="no")
            case "given back":
                payments.services.record_refund(order_id=order_id)
            case "no answer":
                payments.services.put_off(order_id=order_id, attempts=1, error="?")
            case event_type:
                outbox.deliver("payments", told_of(order_id, customer)[event_type])

    @staticmethod
    def read(order_id):
        payment = Payment.objects.filter(pk=order_id).first()
        if not payment:
            return SimpleNamespace(state="no payment", due_at=None)
        asked = {"PENDING": ", asked" if payment.attempts else ", not asked"}
        return SimpleNamespace(state=payment.status + asked.get(payment.status, ""), due_at=payment.due_at)


@pytest.mark.parametrize(
    ("model", "headings"),
    [
        (Order, ["Orders"]),
        (Reservation, ["Stock"]),
        (Payment, ["Payments from the wallet", "Payments by a provider that calls out"]),
    ],
)
def test_the_database_lets_a_status_go_the_ways_of_the_tables_and_no_other(model, headings):
    told = {
        (state.partition(",")[0], cell.partition(",")[0].partition(" ")[0])
        for heading in headings
        for _, state, cell in cells(heading)
    }
    states = set(model.Status.values)
    ways = {(before, after) for before, after in told if before != after and {before, after} <= states}
    [fsm] = [trigger for trigger in model._meta.triggers if isinstance(trigger, pgtrigger.FSM)]
    assert sorted(fsm.transitions) == sorted(ways)


def test_the_tables_have_every_state_and_every_event(groups):
    from outbox.registry import handlers_of

    tables = {
        "orders": ("Orders", {*Order.Status.values}),
        "stock": ("Stock", {*Reservation.Status.values}),
        "payments": ("Payments by a provider that calls out", {*Payment.Status.values}),
    }
    for group, (heading, states) in tables.items():
        assert states <= {state.partition(",")[0] for _, state, _ in cells(heading)}
        assert handlers_of(group).keys() <= {what.partition(",")[0] for what, _, _ in cells(heading)}
