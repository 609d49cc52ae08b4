"""What analytics counts, whichever event comes first."""

import random
from datetime import timedelta
from decimal import Decimal
from itertools import permutations

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from analytics import services
from analytics.consumers import count_events
from analytics.models import CancelReason, Funnel, OrderFact, Sales, counters_of
from analytics.services import News
from analytics.tests.conftest import NOON, OrderStory, sums, welcome
from outbox.models import InboxEvent

pytestmark = pytest.mark.django_db

HOUR, MINUTE_US = timedelta(hours=1), 60_000_000
BEGIN_OF_TIME, END_OF_TIME = NOON.replace(year=1970), NOON.replace(year=2999)


def test_a_paid_order_is_a_sale_of_its_products_in_the_hour_in_which_it_was_paid(outbox):
    outbox.deliver("analytics", *OrderStory(NOON - timedelta(minutes=2)).paid)
    found = sums()
    assert found["Sales"] == {(NOON, "USD"): {"orders": 1, "units": 3, "revenue": Decimal("25.50")}}
    assert found["ProductSales"] == {
        (NOON, "A1", "USD"): {"units": 2, "revenue": Decimal("20.00")},
        (NOON, "B2", "USD"): {"units": 1, "revenue": Decimal("5.50")},
    }


def test_an_order_is_in_the_funnel_in_the_hour_in_which_it_was_placed(outbox):
    outbox.deliver("analytics", *OrderStory(NOON - timedelta(minutes=1)).returned)
    assert sums()["Funnel"] == {
        (NOON - HOUR,): {
            "created": 1,
            "reserved": 1,
            "completed": 1,
            "reserved_and_completed": 1,
            "cancelled_customer": 1,
            "created_to_reserved_us": 2 * MINUTE_US,
            "reserved_to_completed_us": 2 * MINUTE_US,
            "created_to_completed_us": 4 * MINUTE_US,
            "created_to_cancelled_us": 5 * MINUTE_US,
        }
    }


def test_what_is_given_back_is_a_refund_in_the_hour_in_which_it_was(outbox):
    outbox.deliver("analytics", *OrderStory(NOON - timedelta(minutes=6)).returned)
    assert sums()["Sales"] == {
        (NOON - HOUR, "USD"): {"orders": 1, "units": 3, "revenue": Decimal("25.50")},
        (NOON, "USD"): {"refunds": Decimal("25.50")},
    }


def test_what_was_captured_after_the_cancel_is_neither_sale_nor_refund(outbox):
    outbox.deliver("analytics", *OrderStory().paid_too_late)
    found = sums()
    assert (found["Sales"], found["ProductSales"]) == ({}, {})
    assert found["Funnel"][(NOON,)]["cancelled_timeout"] == 1


@pytest.mark.parametrize("reason", CancelReason.values)
def test_each_reason_has_a_counter(outbox, reason):
    story = OrderStory()
    outbox.deliver("analytics", story.created, story.cancelled(reason))
    assert sums()["Funnel"] == {
        (NOON,): {"created": 1, f"cancelled_{reason.lower()}": 1, "created_to_cancelled_us": 5 * MINUTE_US}
    }


def test_every_event_is_counted_by_its_type_and_hour(outbox):
    story = OrderStory()
    outbox.deliver("analytics", *story.returned, *OrderStory(NOON - HOUR).rejected, *OrderStory().unpaid, welcome())
    counted = {key: counters["count"] for key, counters in sums()["Activity"].items()}
    assert counted == {
        (NOON, "user.created"): 1,
        (NOON, "order.created"): 2,
        (NOON, "stock.reserved"): 2,
        (NOON, "order.reserved"): 2,
        (NOON, "payment.succeeded"): 1,
        (NOON, "payment.failed"): 1,
        (NOON, "order.completed"): 1,
        (NOON, "order.cancelled"): 2,
        (NOON, "payment.refunded"): 1,
        (NOON, "stock.released"): 1,
        (NOON - HOUR, "order.created"): 1,
        (NOON - HOUR, "stock.rejected"): 1,
        (NOON - HOUR, "order.cancelled"): 1,
    }


def test_an_event_that_comes_days_late_is_counted_where_it_belongs(outbox):
    late, today = OrderStory(NOON - timedelta(days=3)), OrderStory()
    outbox.deliver("analytics", *today.paid)
    outbox.deliver("analytics", *late.paid)
    assert sums()["Sales"][(NOON - timedelta(days=3), "USD")] == sums()["Sales"][(NOON, "USD")]


def test_an_order_is_in_no_sum_before_it_is_known_when_it_was_placed_and_paid(outbox, made):
    story = OrderStory()
    outbox.deliver("analytics", story.cancelled("CUSTOMER"), *story.refunded)
    assert {name: rows for name, rows in sums().items() if name != "Activity"} == {
        "Sales": {},
        "Funnel": {},
        "ProductSales": {},
    }
    outbox.deliver("analytics", *story.paid)
    after = made()
    services.clear()
    outbox.deliver("analytics", *story.returned, forget=True)
    assert made() == after


@pytest.mark.parametrize("currency", ["USD", "EUR"])
def test_currencies_are_kept_apart(outbox, currency):
    outbox.deliver("analytics", *OrderStory(currency=currency).returned)
    assert sums()["Sales"].keys() == {(NOON, currency)}
    assert {key[2] for key in sums()["ProductSales"]} == {currency}


def test_only_what_is_sold_in_our_currency_is_added_up(outbox, settings):
    outbox.deliver("analytics", *OrderStory().paid, *OrderStory(currency="EUR").returned)
    everything = Sales.objects.between(BEGIN_OF_TIME, END_OF_TIME)
    [hour] = everything.by("hour")
    assert (hour["orders"], hour["units"]) == (1, 3)
    assert (hour["revenue"], hour["refunds"]) == (Decimal("25.50"), Decimal("0.00"))
    settings.CURRENCY = "EUR"
    [hour] = everything.by("hour")
    assert (hour["revenue"], hour["refunds"]) == (Decimal("25.50"), Decimal("25.50"))


def test_the_first_word_on_each_fact_stands(outbox):
    story = OrderStory()
    outbox.deliver("analytics", *story.paid)
    [_, again] = story.completed
    outbox.deliver("analytics", story.after(90, again))
    assert sums()["Sales"] == {(NOON, "USD"): {"orders": 1, "units": 3, "revenue": Decimal("25.50")}}
    assert sums()["ProductSales"][(NOON, "A1", "USD")] == {"units": 2, "revenue": Decimal("20.00")}


@pytest.mark.parametrize("order", [*permutations(["created", "reserved", "completed", "cancelled"])])
def test_the_order_of_an_orders_events_does_not_matter(outbox, made, order):
    story = OrderStory()
    told = {
        "created": [story.created],
        "reserved": story.reserved,
        "completed": story.completed,
        "cancelled": [story.cancelled("CUSTOMER"), *story.refunded],
    }
    events = {name: list(part) for name, part in told.items()}
    outbox.deliver("analytics", *(event for part in events.values() for event in part))
    expected = made()
    services.clear()
    for name in order:
        outbox.deliver("analytics", *events[name], forget=True)
    assert made() == expected


STORIES = ("paid", "returned", "paid_too_late", "rejected", "unpaid")


@settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(STORIES), min_size=1, max_size=4),
    minutes=st.lists(st.integers(-70, 70), min_size=4, max_size=4),
    chance=st.randoms(use_true_random=False),
)
def test_any_order_and_any_batches_of_any_orders_come_to_the_same(outbox, made, kinds, minutes, chance):
    stories = [
        (OrderStory(NOON + timedelta(minutes=offset)), kind) for kind, offset in zip(kinds, minutes, strict=False)
    ]
    events = [event for story, kind in stories for event in getattr(story, kind)]
    services.clear()
    for event in events:
        outbox.deliver("analytics", event)
    expected = made()

    services.clear()
    InboxEvent.objects.all().delete()
    chance.shuffle(events)
    while events:
        size = chance.randint(1, len(events))
        batch, events = events[:size], events[size:]
        outbox.deliver("analytics", *batch)
    assert made() == expected


@pytest.mark.parametrize("orders", [1, 100])
def test_many_events_take_as_many_statements_as_one(orders, django_assert_num_queries):
    events = [event for _ in range(orders) for event in OrderStory().returned]
    # Two for the transaction, three for the facts, and one for each table of sums.
    with django_assert_num_queries(9):
        count_events(events)


def test_clear_forgets_everything(outbox, made):
    nothing = made()
    outbox.deliver("analytics", *OrderStory().returned, welcome())
    services.clear()
    assert made() == nothing


def shard():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0] % services.SHARDS


@pytest.mark.django_db(transaction=True)
def test_members_that_add_to_the_same_hour_do_not_wait_for_each_other(overtake):
    news = [News("user.created", NOON)]
    ours = shard()

    def beside():
        while shard() == ours:
            connection.close()
        services.record(news=news)
        return sums()["Activity"][(NOON, "user.created")]["count"]

    # The first has added, and not committed.
    assert overtake(lambda: services.record(news=news), beside) == 1
    assert sums()["Activity"][(NOON, "user.created")]["count"] == 2


@pytest.mark.django_db(transaction=True)
def test_orders_that_two_members_hear_of_at_the_same_time_are_counted_once_each(at_once):
    order_ids = [uuid7() for _ in range(20)]

    def tell(name):
        return lambda: services.record(
            news=[News(f"order.{name}", NOON, order_id, {f"{name}_at": NOON}) for order_id in order_ids]
        )

    assert at_once(tell("created"), tell("reserved")) == [None, None]
    assert sums()["Funnel"] == {(NOON,): {"created": 20, "reserved": 20}}


@pytest.mark.django_db(transaction=True)
def test_members_that_hear_of_the_same_orders_in_any_order_do_not_stop_each_other(at_once, monkeypatch):
    # All on one shard, so that they meet there too.
    monkeypatch.setattr(services, "SHARDS", 1)
    services._addition.cache_clear()
    order_ids = [uuid7() for _ in range(200)]

    def tell(seed):
        chance = random.Random(seed)

        def some():
            for batch in range(15):
                names = chance.sample(order_ids, 60)
                hours = chance.sample(range(12), 12)
                services.record(
                    news=[
                        News(f"order.{seed}", NOON.replace(hour=hours[place % 12]), order_id, {"units": batch})
                        for place, order_id in enumerate(names)
                    ]
                )

        return some

    try:
        assert at_once(*map(tell, range(4))) == [None] * 4
    finally:
        services._addition.cache_clear()
    assert sum(counters["count"] for counters in sums()["Activity"].values()) == 4 * 15 * 60


@pytest.mark.django_db(transaction=True)
def test_a_crash_before_the_commit_leaves_nothing(outbox, made):
    nothing = made()
    news = [News("order.created", NOON, uuid7(), {"created_at": NOON})]
    outbox.crash(lambda: services.record(news=news))
    assert made() == nothing
    outbox.deliver("analytics", *OrderStory().paid)
    before = made()
    outbox.crash(services.clear)
    assert made() == before


@pytest.mark.parametrize(
    "told",
    [
        {"completed_at": NOON},
        {"cancelled_at": NOON},
        {"cancelled_at": NOON, "cancel_reason": "OTHER"},
        {"cancel_reason": "CUSTOMER"},
        {"refunded_at": NOON},
        {"refunded": Decimal("1.00")},
    ],
)
def test_half_a_fact_is_refused(told):
    with pytest.raises(IntegrityError), transaction.atomic():
        OrderFact.objects.create(order_id=uuid7(), **told)


def test_the_funnel_has_a_counter_of_each_reason():
    assert {reason.counter for reason in CancelReason} <= set(counters_of(Funnel))
