"""The saga as a chain of Celery tasks. Run with: celery -A benchmarks.baselines.chain worker

The same tables, steps and statements, since each task calls the service that our consumers call, for one order, in a
transaction of its own. Nothing is published: the broker leads from step to step. An order that was placed starts its
chain when it is committed, as Celery's documentation has it; when the process dies between the two, it stays where it
is. Only the way of an order that is completed is here, without errors.
"""

import os
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from celery import Celery, chain
from django.db import transaction

app = Celery("chain")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.task_acks_late = True
# Or Celery would connect to PostgreSQL anew for each task.
app.conf.CELERY_DB_REUSE_MAX = 1_000_000
app.conf.task_default_queue = os.environ["KAFKA_PREFIX"] + "chain"


@app.task
def reserve(order_id: str, quantities: dict[str, int]) -> None:
    """Set the order's units aside."""
    from stock import services

    services.reserve(requests=[services.ReserveRequest(UUID(order_id), quantities)])


@app.task
def ask_for_payment(order_id: str) -> None:
    """Let the order wait for its payment."""
    from orders import services
    from stock.events import StockReserved

    services.ask_for_payment(facts=[services.Fact.of(StockReserved(order_id=UUID(order_id)))])


@app.task
def capture(order_id: str, customer_id: str, amount: str, currency: str) -> None:
    """Take the money from the wallet."""
    from payments import services

    request = services.CaptureRequest(UUID(order_id), UUID(customer_id), Decimal(amount), currency)
    services.capture(requests=[request])


@app.task
def complete(order_id: str, customer_id: str, amount: str, currency: str) -> None:
    """Complete the order."""
    from orders import services
    from payments.events import PaymentSucceeded

    paid = PaymentSucceeded(
        order_id=UUID(order_id), customer_id=UUID(customer_id), amount=Decimal(amount), currency=currency
    )
    services.complete(facts=[services.Fact.of(paid)])


@app.task
def sell(order_id: str) -> None:
    """Turn what the order holds into a sale."""
    from stock import services

    services.sell(order_ids=[UUID(order_id)])


def lead_instead_of_publish() -> None:
    """Let services of this process publish nothing, and an order that is placed start its chain."""
    import orders.services
    import payments.services
    import stock.services

    for services in (orders.services, payments.services, stock.services):
        services.publish = lead  # type: ignore[attr-defined]


def lead(*events: Any) -> None:
    """Start the chain of each order that was placed, when that is committed."""
    from orders.events import OrderCreated

    for event in events:
        if isinstance(event, OrderCreated):
            order_id, customer_id, amount = str(event.order_id), str(event.customer_id), str(event.total)
            steps = chain(
                reserve.si(order_id, event.quantities),
                ask_for_payment.si(order_id),
                capture.si(order_id, customer_id, amount, event.currency),
                complete.si(order_id, customer_id, amount, event.currency),
                sell.si(order_id),
            )
            transaction.on_commit(partial(steps.apply_async))


@app.on_after_finalize.connect
def prepare(**_: Any) -> None:
    """Make the worker's services ready for it."""
    lead_instead_of_publish()
