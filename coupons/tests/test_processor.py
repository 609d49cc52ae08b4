"""What requests come to: in any batches, twice, at once and around crashes, and never one coupon too many."""

from collections import Counter
from datetime import timedelta
from functools import partial

import pytest
from django.db import IntegrityError, ProgrammingError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from coupons import services
from coupons.events import CouponIssued, CouponIssueRequested, CouponRejected
from coupons.models import Coupon, IssuedCoupon, Request
from outbox.testing import STEPS

Status = Request.Status
SUCCESS, DUPLICATE, OUT_OF_STOCK = Status.SUCCESS, Status.DUPLICATE_REQUEST, Status.OUT_OF_STOCK
FINAL = [status for status in Status if status not in (Status.QUEUED, Status.SYSTEM_ERROR)]


def ids(requests):
    return [request.pk for request in requests]


def decide(*requests, **more):
    services.decide(request_ids=ids(requests), **more)


def statuses(requests):
    now = Request.objects.in_bulk(ids(requests))
    return [now[request.pk].status for request in requests]


def adds_up(code="TEN"):
    """Return whether a coupon's rows say the same, and no more of it is issued than there is."""
    coupon = Coupon.objects.get(pk=code)
    issued = IssuedCoupon.objects.filter(coupon=coupon)
    owners = Counter(issued.values_list("user_id", flat=True))
    succeeded = set(Request.objects.filter(code=code, status=SUCCESS).values_list("pk", flat=True))
    return (
        coupon.issued == sum(owners.values()) <= coupon.quantity
        and set(owners.values()) <= {1}
        and succeeded == set(issued.values_list("request_id", flat=True))
    )


@pytest.mark.django_db
class TestOutcomes:
    def test_the_first_get_one_and_all_are_told(self, coupon, people, queued, outbox):
        requests = queued(*people(3))
        decide(*requests)
        assert statuses(requests) == [SUCCESS, SUCCESS, OUT_OF_STOCK]
        assert adds_up()
        *got, missed = requests
        assert outbox.events == [
            *[CouponIssued(code="TEN", name="Ten off", request_id=r.pk, user_id=r.user_id) for r in got],
            CouponRejected(code="TEN", request_id=missed.pk, user_id=missed.user_id, reason="OUT_OF_STOCK"),
        ]
        assert all(request.finished_at for request in Request.objects.all())

    def test_first_is_who_is_named_first_whatever_the_ids_say(self, coupon, people, queued):
        requests = queued(*people(4))
        decide(*reversed(requests))
        assert statuses(requests) == [OUT_OF_STOCK, OUT_OF_STOCK, SUCCESS, SUCCESS]

    def test_a_user_who_asked_twice_gets_one(self, coupon, people, queued):
        one, other = people(2)
        requests = queued(one, one, other)
        decide(*requests)
        assert statuses(requests) == [SUCCESS, DUPLICATE, SUCCESS]
        again = queued(one)
        decide(*again)
        assert statuses(again) == [DUPLICATE]

    def test_coupons_of_one_batch_are_counted_apart(self, coupon, people, queued):
        Coupon.objects.create(code="ONE", name="Another", quantity=1)
        users = people(3)
        tens, ones = queued(*users), queued(*users, code="ONE")
        decide(*[request for pair in zip(ones, tens, strict=True) for request in pair])
        assert statuses(tens) == [SUCCESS, SUCCESS, OUT_OF_STOCK]
        assert statuses(ones) == [SUCCESS, OUT_OF_STOCK, OUT_OF_STOCK]

    def test_a_coupon_that_is_gone_fails_validation(self, coupon, people, queued):
        requests = queued(*people(1))
        coupon.delete()
        decide(*requests)
        assert statuses(requests) == [Status.VALIDATION_FAILED]

    def test_a_user_who_is_gone_fails_validation_and_takes_none(self, coupon, people, queued):
        gone, other, third = people(3)
        requests = queued(gone, other, third)
        gone.is_active = False
        gone.save()
        decide(*requests)
        assert statuses(requests) == [Status.VALIDATION_FAILED, SUCCESS, SUCCESS]

    def test_who_registered_too_late_for_the_coupon_fails_validation(self, coupon, people, queued):
        early, late = people(2)
        Coupon.objects.update(registered_before=late.date_joined)
        requests = queued(early, late)
        decide(*requests)
        assert statuses(requests) == [SUCCESS, Status.VALIDATION_FAILED]

    @pytest.mark.parametrize(
        ("is_enabled", "starts", "ends", "expected"),
        [
            (True, -1, 1, SUCCESS),
            (True, 0, None, SUCCESS),
            (True, 1, None, Status.BUSINESS_ERROR),
            (True, None, 0, Status.BUSINESS_ERROR),
            (True, None, -1, Status.BUSINESS_ERROR),
            (False, None, None, Status.BUSINESS_ERROR),
        ],
    )
    def test_it_can_be_had_while_it_lasts(self, coupon, people, queued, is_enabled, starts, ends, expected):
        asked_at = timezone.now() - timedelta(hours=1)
        limit = {
            name: None if hours is None else asked_at + timedelta(hours=hours)
            for name, hours in {"starts_at": starts, "ends_at": ends}.items()
        }
        Coupon.objects.update(is_enabled=is_enabled, **limit)
        requests = queued(*people(1), at=asked_at)
        decide(*requests)
        assert statuses(requests) == [expected]

    def test_an_entry_of_the_stream_is_remembered(self, coupon, people, queued):
        first, second = queued(*people(2), queue="REDIS")
        decide(first, second, stream_ids={first.pk: "1700000000000-0"})
        assert [Request.objects.get(pk=r.pk).stream_id for r in (first, second)] == ["1700000000000-0", ""]

    def test_what_cannot_be_decided_is_given_up_and_told(self, coupon, people, queued, outbox):
        [request] = queued(*people(1))
        services.give_up(request_ids=[request.pk])
        assert statuses([request]) == [Status.SYSTEM_ERROR]
        assert outbox.published(CouponRejected).reason == "SYSTEM_ERROR"
        assert adds_up()

    @pytest.mark.parametrize("status", FINAL)
    def test_what_was_answered_is_not_given_up(self, coupon, people, queued, rows, status):
        [request] = queued(*people(1))
        Request.objects.update(status=status, finished_at=timezone.now())
        before = rows()
        services.give_up(request_ids=[request.pk])
        assert rows() == before

    def test_what_was_given_up_is_decided_when_it_is_tried_again(self, coupon, people, queued, outbox):
        first, *others = queued(*people(3))
        services.give_up(request_ids=[first.pk])
        decide(*others[:1])
        decide(first)
        assert statuses([first]) == [SUCCESS]
        assert outbox.types == ["coupon.rejected", "coupon.issued", "coupon.issued"]
        decide(*others[1:])
        assert statuses(others) == [SUCCESS, OUT_OF_STOCK]

    def test_what_is_not_known_is_left_alone(self, coupon, rows):
        before = rows()
        services.decide(request_ids=[uuid7()])
        services.decide(request_ids=[])
        assert rows() == before

    def test_a_batch_takes_as_many_statements_as_a_single_request(self, coupon, people, queued):
        Coupon.objects.update(quantity=500)
        counts = []
        for size in (1, 400):
            requests = queued(*people(size))
            with CaptureQueriesContext(connection) as queries:
                decide(*requests)
            counts.append(len(queries))
        assert counts[0] == counts[1] <= 10


@pytest.mark.django_db
class TestConstraints:
    def test_no_more_are_issued_than_there_are(self, coupon):
        with pytest.raises(IntegrityError, match="coupon_issued_within_quantity"):
            Coupon.objects.update(issued=3)

    def test_nobody_has_one_twice(self, coupon, people, queued):
        [user] = people(1)
        requests = queued(user, user)
        with pytest.raises(IntegrityError, match="issued_once_to_a_user"):
            IssuedCoupon.objects.bulk_create(IssuedCoupon(coupon=coupon, user=user, request=r) for r in requests)

    def test_a_request_is_answered_once(self, coupon, people, queued):
        decide(*queued(*people(1)))
        with pytest.raises(ProgrammingError, match="Invalid transition"):
            Request.objects.update(status=OUT_OF_STOCK)


@pytest.mark.django_db
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    quantity=st.integers(1, 6),
    # Who asks, one after the other: some of them more than once.
    askers=st.lists(st.integers(0, 7), min_size=1, max_size=16),
    # Where a batch ends, and which batches come again.
    cuts=st.sets(st.integers(1, 15)),
    repeats=st.sets(st.integers(0, 15)),
)
def test_in_any_batches_and_repeats_the_first_in_order_get_one(people, queued, quantity, askers, cuts, repeats):
    with transaction.atomic():
        users = people(8)
        Coupon.objects.create(code="TEN", name="Ten off", quantity=quantity)
        requests = queued(*[users[asker] for asker in askers])
        ends = [*sorted(cut for cut in cuts if cut < len(requests)), len(requests)]
        batches = [requests[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
        for number, batch in enumerate(batches):
            decide(*batch)
            if number in repeats:
                decide(*requests[: ends[number]])

        assert adds_up()
        winners = list(dict.fromkeys(askers))[:quantity]
        expected, have = [], set()
        for asker in askers:
            expected.append(DUPLICATE if asker in have else SUCCESS if asker in winners else OUT_OF_STOCK)
            have.update({asker} & set(winners))
        assert statuses(requests) == expected
        transaction.set_rollback(True)


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_two_processors_on_the_same_requests_issue_each_once(self, coupon, people, queued, at_once, outbox):
        Coupon.objects.update(quantity=10)
        requests = queued(*people(40))
        at_once(*[partial(decide, *requests)] * 4, *[partial(decide, *reversed(requests))] * 4)
        assert Counter(statuses(requests)) == {SUCCESS: 10, OUT_OF_STOCK: 30}
        assert adds_up()
        assert Counter(outbox.types) == {"coupon.issued": 10, "coupon.rejected": 30}

    def test_processors_of_both_queues_share_what_there_is(self, coupon, people, queued, at_once):
        Coupon.objects.update(quantity=10)
        users = people(30)
        by_kafka, by_redis = queued(*users), queued(*reversed(users), queue="REDIS")
        halves = [queue[begin : begin + 10] for queue in (by_kafka, by_redis) for begin in (0, 10, 20)]
        assert at_once(*[partial(decide, *half) for half in halves]) == [None] * 6
        assert Counter(statuses(by_kafka + by_redis))[SUCCESS] == 10
        assert adds_up()

    def test_batches_with_the_same_coupons_in_other_orders_do_not_deadlock(self, coupon, people, queued, at_once):
        Coupon.objects.create(code="ONE", name="Another", quantity=1)
        users = people(20)
        tens, ones = queued(*users), queued(*users, code="ONE")
        batches = [[*tens[:10], *ones[:10]], [*ones[10:], *tens[10:]], [*ones, *tens]]
        assert at_once(*[partial(decide, *batch) for batch in batches]) == [None] * 3
        assert adds_up("TEN")
        assert adds_up("ONE")

    @pytest.mark.parametrize("decides_first", [True, False])
    def test_of_giving_up_and_deciding_the_first_one_counts(self, coupon, people, queued, overtake, decides_first):
        [request] = queued(*people(1))
        steps = [partial(decide, request), partial(services.give_up, request_ids=[request.pk])]
        overtake(*(steps if decides_first else steps[::-1]))
        # What was given up can still be decided.
        assert statuses([request]) == [SUCCESS]
        assert adds_up()


def asked(request):
    return CouponIssueRequested(code=request.code, request_id=request.pk, user_id=request.user_id)


@pytest.mark.django_db
class TestByKafka:
    def test_delivered_twice_is_decided_once(self, coupon, people, queued, outbox, rows):
        events = [asked(request) for request in queued(*people(3))]
        outbox.deliver("coupons", *events)
        before = rows()
        outbox.deliver("coupons", *events, forget=True)
        assert rows() == before

    @pytest.mark.django_db(transaction=True)
    def test_crashes_at_every_step_leave_the_effects_of_one_delivery(self, coupon, people, queued, outbox):
        requests = queued(*people(3))
        outbox.deliver("coupons", *map(asked, requests), crash_at=STEPS)
        assert statuses(requests) == [SUCCESS, SUCCESS, OUT_OF_STOCK]
        assert adds_up()
        assert len(outbox.types) == 3

    def test_a_request_that_comes_late_is_judged_by_when_it_was_made(self, coupon, people, queued, outbox):
        asked_at = timezone.now() - timedelta(days=2)
        requests = queued(*people(1), at=asked_at)
        Coupon.objects.update(ends_at=asked_at + timedelta(days=1))
        outbox.deliver("coupons", *map(asked, requests))
        assert statuses(requests) == [SUCCESS]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("act", ["decide", "give_up"])
def test_a_crash_before_the_commit_leaves_nothing(coupon, people, queued, outbox, rows, act):
    requests = queued(*people(3))
    before = rows()
    outbox.crash(partial(getattr(services, act), request_ids=ids(requests)))
    assert rows() == before
