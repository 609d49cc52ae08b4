"""A request's trace on its way: through outbox, Kafka and handlers to the last event that follows from it."""

from decimal import Decimal

import pytest

import payments.services
import stock.services
from outbox.consuming.applying import Applier
from outbox.consuming.consumer import Consumer
from outbox.models import OutboxEvent
from outbox.record import Record
from outbox.relay.relay import Relay
from outbox.tests.conftest import kafka, prefix  # noqa: F401  (fixtures)
from outbox.worker import Stop

FIRST, SECOND = "a" * 32, "b" * 32
PARENT = "1" * 16


@pytest.fixture
def goods(transactional_db):
    stock.services.add_product(sku="A1", name="The A1", price=Decimal("10.00"))
    stock.services.receive(sku="A1", quantity=5)


@pytest.fixture
def place(api, customer, goods):
    """Return a function that places an order by a request of a trace, and returns the order's id."""
    payments.services.deposit(user_id=customer.pk, amount=Decimal("100.00"))
    OutboxEvent.objects.all().delete()
    client = api(customer)

    def post(trace_id):
        response = client.post(
            "/api/v1/orders/",
            {"items": [{"sku": "A1", "quantity": 1}]},
            headers={"traceparent": f"00-{trace_id}-{PARENT}-01"},
        )
        assert response.status_code == 202
        return response.json()["id"]

    return post


def rows():
    """Return (order id, trace id, parent id, event type) of each event in the outbox."""
    found = []
    for row in OutboxEvent.objects.all():
        _, trace_id, parent_id, _ = row.traceparent.split("-")
        found.append((bytes(row.key).decode(), trace_id, parent_id, row.event_type))
    return found


def test_every_event_of_an_order_has_the_trace_of_its_request(place, kafka, groups):  # noqa: F811
    traces = {place(FIRST): FIRST, place(SECOND): SECOND}

    seen = []
    while waiting := rows():
        seen += waiting
        Relay().run(Stop(), once=True)
        for group in groups:
            Consumer(group, stop=Stop(), until_idle=True).run()

    for order_id, trace_id in traces.items():
        steps = [row for row in seen if row[0] == order_id]
        assert [row[3] for row in steps] == [
            "order.created", "stock.reserved", "order.reserved", "payment.succeeded", "order.completed",
        ]  # fmt: skip
        assert {row[1] for row in steps} == {trace_id}
        assert len({row[2] for row in steps} | {PARENT}) == 6


def test_orders_of_one_batch_keep_their_traces(place):
    traces = {place(FIRST): FIRST, place(SECOND): SECOND}
    records = [
        Record(
            row.topic,
            0,
            row.pk,
            bytes(row.key),
            bytes(row.value),
            [
                ("event-id", str(row.event_id).encode()),
                ("event-type", row.event_type.encode()),
                ("traceparent", row.traceparent.encode()),
            ],
        )
        for row in OutboxEvent.objects.all()
    ]

    assert Applier("stock", pause=print).apply(records).applied == 2

    assert {key: trace_id for key, trace_id, _, event_type in rows() if event_type == "stock.reserved"} == traces
