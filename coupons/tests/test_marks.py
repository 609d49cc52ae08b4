"""Marks in Redis: they spare PostgreSQL the question, and are never in the way of who can get a coupon."""

import time
from functools import partial

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from config.redis import key, quick
from coupons import marks, services
from coupons.models import Coupon, IssuedCoupon, Request
from coupons.services import DuplicateRequest, OutOfStock

# Marks are set after the commit.
pytestmark = pytest.mark.django_db(transaction=True)

Status = Request.Status


@pytest.fixture(autouse=True)
def long_lives(monkeypatch):
    """Let no mark end while a test runs, however slow the machine is."""
    monkeypatch.setattr(marks, "MARK_SECONDS", 300)
    monkeypatch.setattr(marks, "BAR_SECONDS", 1000)


def ask(user):
    return services.ask(user_id=user.pk, code="TEN")


def decide(*requests):
    services.decide(request_ids=[request.pk for request in requests])


def refused(user):
    """Return how a user is refused by Redis alone. None: PostgreSQL had to be asked."""
    with CaptureQueriesContext(connection) as queries, pytest.raises((DuplicateRequest, OutOfStock)) as refusal:
        ask(user)
    return None if queries.captured_queries else refusal.type


def read():
    return Coupon.objects.get(pk="TEN"), time.monotonic()


@pytest.fixture
def sold_out(coupon, people, queued):
    """The two who got all there was."""
    users = people(2)
    decide(*queued(*users))
    return users


def test_who_has_asked_is_refused_until_they_get_none(coupon, people):
    users = people(3)
    requests = [ask(user) for user in users]
    assert [refused(user) for user in users] == [DuplicateRequest] * 3
    decide(*requests)
    # Who got one is refused for it, who got none since there is none left.
    assert [refused(user) for user in users] == [DuplicateRequest, DuplicateRequest, OutOfStock]


def test_who_got_none_can_ask_again_at_once(coupon, customer):
    Coupon.objects.update(is_enabled=False)
    first = ask(customer)
    decide(first)
    second = ask(customer)
    services.give_up(request_ids=[second.pk])
    assert ask(customer).status == Status.QUEUED


def test_a_mark_that_postgresql_had_to_make_up_for_is_set_again(sold_out, customer, forget_redis):
    forget_redis()
    for user, refusal in [(sold_out[0], DuplicateRequest), (customer, OutOfStock)]:
        assert refused(user) is None
        assert refused(user) is refusal


def test_raising_the_quantity_opens_the_coupon_at_once(sold_out, customer):
    assert refused(customer) is OutOfStock
    services.raise_quantity(code="TEN", quantity=3)
    request = ask(customer)
    decide(request)
    assert IssuedCoupon.objects.filter(user=customer).exists()


def test_it_is_open_before_the_raise_is_committed_and_asks_postgresql(sold_out, customer):
    with transaction.atomic():
        services.raise_quantity(code="TEN", quantity=3)
        assert marks.find("TEN", customer.pk) is None


@pytest.mark.parametrize("late", ["processor", "web"])
def test_who_is_late_with_the_old_quantity_does_not_close_it_again(sold_out, customer, late):
    coupon, since = read()
    services.raise_quantity(code="TEN", quantity=3)
    if late == "processor":
        services._mark([], {"TEN": coupon}, since)
    else:
        marks.mark_sold_out(coupon, since)
    assert marks.find("TEN", customer.pk) is None


def test_who_is_late_with_the_old_quantity_leaves_the_mark_of_the_new_one(sold_out, people, queued):
    coupon, since = read()
    services.raise_quantity(code="TEN", quantity=3)
    third, fourth = people(2)
    decide(*queued(third))
    marks.mark_sold_out(coupon, since)
    assert refused(fourth) is OutOfStock


def test_after_a_raise_that_was_rolled_back_the_next_one_counts(sold_out, customer, people):
    with transaction.atomic():
        services.raise_quantity(code="TEN", quantity=3)
        transaction.set_rollback(True)
    # PostgreSQL refuses, and cannot mark it.
    with pytest.raises(OutOfStock):
        ask(customer)
    services.raise_quantity(code="TEN", quantity=3)
    decide(ask(customer))
    [other] = people(1)
    with pytest.raises(OutOfStock):
        ask(other)
    assert refused(other) is OutOfStock


def test_a_mark_that_was_read_too_long_ago_is_not_set(sold_out, customer, forget_redis):
    forget_redis()
    coupon, since = read()
    marks.mark_sold_out(coupon, since - marks.MARK_SECONDS)
    assert marks.find("TEN", customer.pk) is None


def test_who_is_late_to_mark_a_request_that_has_ended_does_not_keep_its_user_out(coupon, customer, queued):
    Coupon.objects.update(is_enabled=False)
    [request] = queued(customer)
    decide(request)
    marks.mark_asked([request], time.monotonic())
    assert ask(customer).status == Status.QUEUED


def test_a_request_that_ends_leaves_the_mark_of_another_that_waits(coupon, customer, queued):
    first, second = queued(customer, customer)
    marks.mark_asked([second], time.monotonic())
    services.give_up(request_ids=[first.pk])
    assert refused(customer) is DuplicateRequest
    services.give_up(request_ids=[second.pk])
    assert ask(customer).status == Status.QUEUED


def test_an_answer_that_is_rolled_back_leaves_the_refusal_to_postgresql(coupon, customer):
    request = ask(customer)
    with transaction.atomic():
        services.give_up(request_ids=[request.pk])
        transaction.set_rollback(True)
    with pytest.raises(DuplicateRequest):
        ask(customer)


def test_nothing_is_marked_that_was_not_committed(coupon, customer, people, queued, outbox):
    outbox.crash(partial(ask, customer))
    requests = queued(*people(2))
    outbox.crash(partial(decide, *requests))
    assert [marks.find("TEN", user_id) for user_id in (customer.pk, requests[0].user_id)] == [None, None]


def test_a_crash_after_the_commit_lets_who_got_none_ask_again(coupon, customer, outbox):
    Coupon.objects.update(is_enabled=False)
    ask(customer)
    [asked] = outbox.events
    outbox.deliver("coupons", asked, crash_at=["after the commit"])
    assert ask(customer).status == Status.QUEUED


def test_without_redis_all_is_right(coupon, people, own_redis):
    users = people(3)
    with own_redis.away():
        requests = [ask(user) for user in users]
        for user in users:
            with pytest.raises(DuplicateRequest):
                ask(user)
        decide(*requests)
        with pytest.raises(OutOfStock):
            ask(users[2])
        services.raise_quantity(code="TEN", quantity=3)
        assert ask(users[2]).status == Status.QUEUED


def test_whatever_is_marked_ends_by_itself(sold_out, customer):
    with pytest.raises(OutOfStock):
        ask(customer)
    services.raise_quantity(code="TEN", quantity=3)
    services.give_up(request_ids=[ask(customer).pk])
    lasting = {name: quick().pttl(name) for name in quick().keys(key("coupons", "*"))}
    kinds = {name.decode().split(":")[2]: milliseconds for name, milliseconds in lasting.items()}
    assert kinds.keys() == {"asked", "ended", "least", "sold-out"}
    assert min(lasting.values()) > 0
    assert max(kinds["asked"], kinds["sold-out"]) <= 1000 * marks.MARK_SECONDS < 1000 * marks.BAR_SECONDS
