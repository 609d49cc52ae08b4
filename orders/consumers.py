"""How orders react to other apps. Run with: manage.py run_consumer orders"""

from orders import services
from orders.services import Fact
from outbox import consumer_group, handles
from payments.events import PaymentFailed, PaymentRefunded, PaymentSucceeded
from stock.events import StockRejected, StockReleased, StockReserved

consumer_group("orders", ordered=True)


@handles(StockReserved, group="orders", bulk=True)
def ask_for_payment_of_reserved_orders(events: list[StockReserved]) -> None:
    services.ask_for_payment(facts=[Fact.of(event) for event in events])


@handles(StockRejected, group="orders", bulk=True)
def cancel_orders_out_of_stock(events: list[StockRejected]) -> None:
    services.reject(facts=[Fact.of(event) for event in events])


@handles(StockReleased, group="orders", bulk=True)
def note_released_stock(events: list[StockReleased]) -> None:
    services.note(facts=[Fact.of(event) for event in events])


@handles(PaymentSucceeded, group="orders", bulk=True)
def complete_paid_orders(events: list[PaymentSucceeded]) -> None:
    services.complete(facts=[Fact.of(event) for event in events])


@handles(PaymentFailed, group="orders", bulk=True)
def cancel_unpaid_orders(events: list[PaymentFailed]) -> None:
    services.fail(facts=[Fact.of(event) for event in events])


@handles(PaymentRefunded, group="orders", bulk=True)
def note_refunded_payment(events: list[PaymentRefunded]) -> None:
    services.note(facts=[Fact.of(event) for event in events])
