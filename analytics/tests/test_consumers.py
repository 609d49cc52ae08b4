"""How analytics takes events that come twice, late, in another order or around crashes."""

from decimal import Decimal

import pytest
from django.apps import apps as django_apps

import orders.services
import payments.services
import stock.services
from analytics import services
from analytics.models import Activity
from analytics.tests.conftest import OrderStory, sums, welcome
from orders.models import Order
from outbox.consuming import rewinding
from outbox.events import event_classes
from outbox.registry import group_of, handlers_of
from outbox.testing import STEPS

pytestmark = pytest.mark.django_db

STORIES = ("paid", "returned", "paid_too_late", "rejected", "unpaid")


@pytest.mark.parametrize("kind", STORIES)
def test_delivered_twice_is_counted_once(outbox, made, kind):
    events = [*getattr(OrderStory(), kind), welcome()]
    outbox.deliver("analytics", *events)
    before = made()
    assert outbox.deliver("analytics", *events, times=2).repeated == 2 * len(events)
    assert made() == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", STORIES)
def test_crashes_at_every_step_leave_the_effects_of_one_delivery(outbox, kind):
    outbox.deliver("analytics", *getattr(OrderStory(), kind))
    expected = sums()
    services.clear()
    *before, last = getattr(OrderStory(), kind)
    outbox.deliver("analytics", *before)
    outbox.deliver("analytics", last, crash_at=STEPS)
    assert sums() == expected


def test_it_publishes_nothing(outbox):
    outbox.deliver("analytics", *OrderStory().returned, *OrderStory().rejected, welcome())
    assert outbox.events == []


def test_a_cancel_for_a_reason_that_is_unknown_is_for_a_person(outbox):
    with pytest.raises(ValueError, match="BORED"):
        outbox.deliver("analytics", OrderStory().cancelled("BORED"))
    assert Activity.objects.count() == 0


@pytest.fixture
def trade(customer, outbox):
    """Return a function that lets a shop trade until all is at rest, by the seed's chance; None: in order.

    Of eight orders one is more than the wallet has, one more than there is, and two are cancelled when they are paid.
    """
    for sku, price in {"A1": "10.00", "B2": "5.50"}.items():
        stock.services.add_product(sku=sku, name=f"The {sku}", price=Decimal(price))
        stock.services.receive(sku=sku, quantity=50)
    payments.services.deposit(user_id=customer.id, amount=Decimal("300.00"))

    def run(**how):
        placed = [
            orders.services.place(customer_id=customer.id, items=items)
            for items in (
                {"A1": 2, "B2": 1},
                {"A1": 1},
                {"B2": 3},
                {"A1": 49},
                {"A1": 40},
                {"B2": 2},
                {"A1": 1},
                {"B2": 1},
            )
        ]
        outbox.run_to_rest(**how)
        for order in Order.objects.filter(status="COMPLETED").order_by("pk")[:2]:
            orders.services.cancel(order_id=order.id)
        outbox.run_to_rest(**how)
        return placed

    return run


@pytest.mark.parametrize("seed", range(5))
def test_whatever_comes_late_or_twice_it_counts_what_the_shop_has(trade, outbox, made, seed):
    placed = trade(seed=seed, repeat=0.2)
    final = Order.objects.filter(pk__in=[order.pk for order in placed])
    completed = final.exclude(completed_at=None)
    total = sums()["Sales"].values()
    assert sum(hour.get("revenue", 0) for hour in total) == sum(order.total for order in completed)
    assert sum(hour.get("refunds", 0) for hour in total) == sum(o.total for o in completed.filter(status="CANCELLED"))
    assert sum(hour.get("orders", 0) for hour in total) == completed.count() > 0

    told, counted = outbox.events, made()
    services.clear()
    for event in told:
        outbox.deliver("analytics", event, forget=True)
    assert made() == counted


def test_a_rebuild_clears_it_so_that_all_is_counted_again(outbox, made):
    events = [*OrderStory().returned, welcome()]
    outbox.deliver("analytics", *events)
    before = made()
    rewinding.ask("analytics", {}, rebuild=True)
    assert set(map(len, made().values())) == {0}
    assert outbox.deliver("analytics", *events).applied == len(events)
    assert made() == before


def test_it_counts_every_event_of_the_project():
    apps = {app.label for app in django_apps.get_app_configs()}
    told = {cls.type for cls in event_classes if cls.__module__.removesuffix(".events") in apps}
    assert told <= handlers_of("analytics").keys()


def test_it_is_no_ordered_group_since_no_order_matters():
    assert not group_of("analytics").ordered
    assert all(handler.bulk for handler in handlers_of("analytics").values())
