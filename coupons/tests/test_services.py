"""What is asked for: accepted at once, refused where that is certain, and told to the queue."""

from collections import Counter
from datetime import timedelta
from decimal import Decimal
from functools import partial

import pytest
from django.core.checks import run_checks
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from coupons import models, services
from coupons.events import CouponIssueRequested
from coupons.models import Coupon, IssuedCoupon, Request
from coupons.services import DuplicateCode, DuplicateRequest, NotRaised, OutOfStock

Status = Request.Status


def ask(user, code="TEN"):
    return services.ask(user_id=user.pk, code=code)


@pytest.mark.django_db
class TestCoupons:
    def test_a_new_coupon_is_enabled_and_whole(self):
        services.create(code="TEN", name="Ten off", quantity=3, percent_off=10)
        coupon = Coupon.objects.get()
        assert (coupon.quantity, coupon.issued, coupon.version, coupon.is_enabled) == (3, 0, 1, True)
        assert coupon.status(timezone.now()) == Coupon.Status.ACTIVE

    def test_a_code_that_is_taken_is_refused_and_the_transaction_goes_on(self, coupon):
        with pytest.raises(DuplicateCode, match="TEN"):
            services.create(code="TEN", name="Another", quantity=1)
        assert Coupon.objects.get().name == "Ten off"

    @pytest.mark.parametrize(
        ("rules", "constraint"),
        [
            ({"code": "ten"}, "coupon_code_plain"),
            ({"code": ""}, "coupon_code_plain"),
            ({"percent_off": 10, "amount_off": Decimal("1.00")}, "coupon_takes_off_one_way"),
            ({"percent_off": 0}, "coupon_percent_in_range"),
            ({"percent_off": 101}, "coupon_percent_in_range"),
            ({"amount_off": Decimal("0.00")}, "coupon_amount_above_zero"),
            ({"minimum_total": Decimal("-0.01")}, "coupon_minimum_not_negative"),
            ({"starts_at": timezone.now(), "ends_at": timezone.now() - timedelta(days=1)}, "coupon_ends_after"),
        ],
    )
    def test_rules_that_make_no_sense_are_refused(self, rules, constraint):
        with pytest.raises(IntegrityError, match=constraint):
            services.create(**{"code": "NEW", "name": "New", "quantity": 1, **rules})

    @pytest.mark.parametrize("quantity", [1, 2])
    def test_a_quantity_is_raised_and_never_lowered(self, coupon, quantity):
        with pytest.raises(NotRaised):
            services.raise_quantity(code="TEN", quantity=quantity)
        services.raise_quantity(code="TEN", quantity=3)
        coupon.refresh_from_db()
        assert (coupon.quantity, coupon.version) == (3, 2)

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, "ACTIVE"),
            ({"issued": 2}, "SOLD_OUT"),
            ({"starts_at": 1}, "SCHEDULED"),
            ({"starts_at": -1, "ends_at": 1}, "ACTIVE"),
            ({"ends_at": 0, "issued": 2}, "ENDED"),
            ({"ends_at": -1, "is_enabled": False}, "DISABLED"),
        ],
    )
    def test_a_status_tells_how_it_stands(self, coupon, changes, expected):
        now = timezone.now()
        for name, value in changes.items():
            setattr(coupon, name, now + timedelta(hours=value) if name.endswith("_at") else value)
        assert coupon.status(now) == expected

    @pytest.mark.parametrize(
        ("percent", "amount", "total", "expected"),
        [
            (10, None, "25.00", "2.50"),
            (15, None, "0.10", "0.02"),
            (50, None, "0.01", "0.01"),
            (33, None, "9.99", "3.30"),
            (100, None, "9.99", "9.99"),
            (None, "5.00", "25.00", "5.00"),
            (None, "5.00", "4.99", "4.99"),
            (None, None, "25.00", "0.00"),
        ],
    )
    def test_it_takes_off_a_share_rounded_half_up_or_an_amount(self, percent, amount, total, expected):
        coupon = Coupon(percent_off=percent, amount_off=amount and Decimal(amount))
        assert coupon.takes_off(Decimal(total)) == Decimal(expected)


@pytest.mark.django_db
class TestAsking:
    def test_a_request_waits_and_is_told_to_kafka(self, coupon, customer, outbox):
        request = ask(customer)
        assert (request.status, request.queue, request.finished_at) == ("QUEUED", "KAFKA", None)
        assert outbox.events == [CouponIssueRequested(code="TEN", request_id=request.pk, user_id=customer.pk)]

    def test_by_redis_no_event_is_told(self, coupon, customer, outbox, settings):
        settings.COUPON_QUEUE = "redis"
        request = ask(customer)
        assert request.queue == "REDIS"
        assert outbox.events == []

    def test_an_unknown_coupon_is_refused(self, coupon, customer, rows):
        before = rows()
        with pytest.raises(Coupon.DoesNotExist):
            ask(customer, code="NONE")
        assert rows() == before

    @pytest.mark.parametrize("rules", [{"is_enabled": False}, {"ends_at": timezone.now() - timedelta(hours=1)}])
    def test_what_is_closed_is_for_the_processor_to_refuse(self, coupon, customer, outbox, rules):
        Coupon.objects.update(**rules)
        request = ask(customer)
        outbox.run_to_rest(groups=["coupons"])
        request.refresh_from_db()
        assert request.status == Status.BUSINESS_ERROR

    def test_who_waits_or_has_one_is_refused_by_postgresql_too(self, coupon, customer, outbox, rows, forget_redis):
        ask(customer)
        for _ in range(2):
            before = rows()
            forget_redis()
            with pytest.raises(DuplicateRequest):
                ask(customer)
            assert rows() == before
            outbox.run_to_rest(groups=["coupons"])
        assert IssuedCoupon.objects.filter(user=customer).count() == 1

    def test_when_all_are_gone_the_next_is_refused_by_postgresql_too(
        self, coupon, customer, people, queued, rows, forget_redis
    ):
        services.decide(request_ids=[request.pk for request in queued(*people(2))])
        before = rows()
        forget_redis()
        with pytest.raises(OutOfStock):
            ask(customer)
        assert rows() == before

    @pytest.mark.parametrize("status", [s for s in Status if s not in (Status.QUEUED, Status.SUCCESS)])
    def test_who_got_none_may_ask_again(self, coupon, customer, queued, status):
        queued(customer)
        Request.objects.update(status=status, finished_at=timezone.now())
        assert ask(customer).status == Status.QUEUED

    def test_a_place_in_the_queue_counts_those_ahead_in_it(self, coupon, people, queued, monkeypatch):
        users = people(4)
        first, _, third = queued(*users[:3])
        by_redis = queued(users[3], queue="REDIS")[0]
        queued(users[3], code="OTHER")
        place = Request.objects.position_of
        assert [place(first), place(third), place(by_redis)] == [1, 3, 1]
        monkeypatch.setattr(models, "POSITION_LIMIT", 2)
        assert [place(first), place(third)] == [1, None]
        services.decide(request_ids=[first.pk])
        assert place(third) == 2


@pytest.mark.django_db(transaction=True)
class TestAskingAtOnce:
    def test_fifty_who_ask_twice_each_for_ten_get_ten(self, coupon, people, at_once, outbox):
        Coupon.objects.update(quantity=10)
        users = people(50)
        answers = at_once(*[partial(ask, user) for user in users * 2])
        assert {type(answer) for answer in answers} <= {Request, DuplicateRequest}
        assert Request.objects.values("user").distinct().count() == 50
        # First come is the order of these.
        told = [event for event in outbox.events if isinstance(event, CouponIssueRequested)]
        outbox.run_to_rest(groups=["coupons"], seed=1, repeat=0.2)
        winners = list(dict.fromkeys(event.user_id for event in told))[:10]
        assert sorted(IssuedCoupon.objects.values_list("user_id", flat=True)) == sorted(winners)
        answers = Request.objects.in_bulk([event.request_id for event in told])
        assert Counter(answer.status for answer in answers.values()) == {
            Status.SUCCESS: 10,
            **Counter(
                Status.DUPLICATE_REQUEST if event.user_id in winners else Status.OUT_OF_STOCK
                for number, event in enumerate(told)
                if event.user_id not in winners or event.user_id in {earlier.user_id for earlier in told[:number]}
            ),
        }

    def test_nobody_waits_for_the_coupon_while_it_is_decided(self, coupon, people, queued, overtake, customer):
        requests = queued(*people(1))
        asked = overtake(
            partial(services.decide, request_ids=[request.pk for request in requests]), partial(ask, customer)
        )
        assert asked.status == Status.QUEUED

    def test_a_crash_before_the_commit_leaves_nothing(self, coupon, customer, outbox, rows):
        before = rows()
        outbox.crash(partial(ask, customer))
        assert rows() == before
        assert ask(customer).status == Status.QUEUED

    def test_raising_waits_for_the_processor(self, coupon, people, queued, overtake):
        requests = queued(*people(3))
        overtake(
            partial(services.decide, request_ids=[request.pk for request in requests]),
            partial(services.raise_quantity, code="TEN", quantity=5),
        )
        coupon.refresh_from_db()
        assert (coupon.issued, coupon.quantity) == (2, 5)


@pytest.mark.django_db
def test_asking_takes_no_lock_of_the_coupon(coupon, customer):
    with CaptureQueriesContext(connection) as queries:
        ask(customer)
    assert not any("FOR " in query["sql"].upper() for query in queries.captured_queries)


@pytest.mark.parametrize(("queue", "expected"), [("kafka", []), ("redis", []), ("Kafka", ["coupons.E001"])])
def test_a_queue_that_there_is_not_is_told(settings, queue, expected):
    settings.COUPON_QUEUE = queue
    assert [error.id for error in run_checks() if error.id.startswith("coupons")] == expected
