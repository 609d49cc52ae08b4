"""Whole sagas with a bank as provider, whatever comes first, twice, or without an answer."""

from datetime import timedelta
from decimal import Decimal
from random import Random

import pytest
from django.utils import timezone

import orders.services
import stock.services
from orders import audit
from orders.models import Order
from payments import settling
from payments.models import Payment

pytestmark = pytest.mark.django_db(transaction=True)


def settle(bank, chance):
    """Let the settler ask, and the bank fail it sometimes."""
    bank.troubles = chance.choices(["lost", "broken", None], k=3)
    Payment.objects.filter(due_at__isnull=False).update(due_at=timezone.now() - timedelta(seconds=1))
    settling.settle_due()


@pytest.mark.parametrize("seed", range(5))
def test_money_is_taken_once_and_goes_back_once(bank, customer, outbox, seed):
    chance = Random(seed)
    stock.services.add_product(sku="A1", name="The A1", price=Decimal("10.00"))
    stock.services.receive(sku="A1", quantity=1000)
    placed = []
    for _ in range(6):
        for _ in range(3):
            # What costs 1,000.00, the bank declines.
            items = {"A1": chance.choice([1, 2, 100])}
            placed.append(orders.services.place(customer_id=customer.id, items=items).id)
        outbox.run_to_rest(seed=chance.randrange(1000), repeat=0.2, forget=True)
        settle(bank, chance)
        for order_id in chance.sample(placed, 3):
            if Order.objects.get(pk=order_id).status != "CANCELLED":
                orders.services.cancel(order_id=order_id)

    bank.troubles = []
    while Payment.objects.filter(due_at__isnull=False).exists() or outbox.run_to_rest(seed=chance.randrange(1000)):
        settle(bank, chance)

    completed = {str(pk) for pk in Order.objects.filter(status="COMPLETED").values_list("pk", flat=True)}
    captured = {order_id for what, order_id in bank.acts if what == "capture"}
    refunded = {order_id for what, order_id in bank.acts if what == "refund"}
    assert len(bank.acts) == len(captured) + len(refunded)
    assert captured - refunded == completed
    assert refunded <= captured
    assert audit.find(now=timezone.now(), grace=timedelta()) == []
