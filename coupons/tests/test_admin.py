"""Coupons in the admin: added, raised, disabled and enabled by the services, and the rest to look at."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from coupons import services
from coupons.models import Coupon, IssuedCoupon, Request

pytestmark = pytest.mark.django_db

NEW = {"code": "spring", "name": "Spring sale", "quantity": "5", "minimum_total": "0.00"}


@pytest.fixture
def answered(coupon, people, queued):
    """Three who asked: two got one, one did not. A fourth and a fifth wait, in one queue each."""
    requests = queued(*people(3))
    services.decide(request_ids=[request.pk for request in requests])
    queued(*people(1), at=timezone.now() - timedelta(seconds=90))
    queued(*people(1), queue="REDIS")
    return requests


def url(model, page, *args):
    return reverse(f"admin:coupons_{model._meta.model_name}_{page}", args=args)


def found(client, model, query):
    return client.get(f"{url(model, 'changelist')}?{query}").context["cl"].result_count


def act(client, name, **values):
    """Send the form of an act, and return what the person is told."""
    answer = client.post(url(Coupon, name, "TEN"), {"once": str(uuid4()), **values}, follow=True)
    return [str(message) for message in answer.context["messages"]]


class TestAdding:
    def test_adds_one_and_logs_who_did(self, admin_client, admin_user):
        form = {**NEW, "percent_off": "10", "starts_at_0": "2026-11-21", "starts_at_1": "20:00:00"}
        assert admin_client.post(url(Coupon, "add"), form).status_code == 302
        coupon = Coupon.objects.get()
        assert (coupon.code, coupon.quantity, coupon.percent_off) == ("SPRING", 5, 10)
        assert coupon.starts_at.isoformat() == "2026-11-21T20:00:00+00:00"
        assert (LogEntry.objects.get().user, LogEntry.objects.get().object_id) == (admin_user, "SPRING")

    @pytest.mark.parametrize(
        "change",
        [
            {"code": "a b"},
            {"code": "ten"},
            {"quantity": "0"},
            {"percent_off": "101"},
            {"percent_off": "10", "amount_off": "5.00"},
            {"amount_off": "0.00"},
            {"minimum_total": "-1"},
            {"starts_at_0": "2026-11-21", "starts_at_1": "20:00", "ends_at_0": "2026-11-21", "ends_at_1": "19:00"},
        ],
    )
    def test_shows_again_what_makes_no_sense(self, admin_client, coupon, change):
        answer = admin_client.post(url(Coupon, "add"), {**NEW, **change})
        assert answer.status_code == 200
        assert answer.context["errors"]
        assert Coupon.objects.count() == 1

    @pytest.mark.django_db(transaction=True)
    def test_of_people_who_add_the_same_at_once_one_does(self, admin_client, at_once):
        def add():
            beside = Client()
            beside.cookies = admin_client.cookies
            return beside.post(url(Coupon, "add"), NEW, follow=True).content

        answers = [answer.decode() for answer in at_once(*[add] * 5)]
        assert Coupon.objects.count() == LogEntry.objects.count() == 1
        told = ["already exists" in answer or "There is a coupon SPRING already." in answer for answer in answers]
        assert sum(told) == 4


class TestActs:
    def test_raises_the_quantity_and_nothing_lowers_it(self, admin_client, coupon):
        assert act(admin_client, "raise", quantity="5") == ["Raised the quantity to 5."]
        assert act(admin_client, "raise", quantity="5") == ["There are as many of TEN already, or more."]
        coupon.refresh_from_db()
        assert (coupon.quantity, coupon.version) == (5, 2)

    def test_disables_and_enables(self, admin_client, coupon):
        assert act(admin_client, "disable") == ["Disabled the coupon."]
        coupon.refresh_from_db()
        assert not coupon.is_enabled
        assert act(admin_client, "enable") == ["Enabled the coupon."]
        coupon.refresh_from_db()
        assert coupon.is_enabled

    @pytest.mark.parametrize(("is_enabled", "offered"), [(True, "Disable"), (False, "Enable")])
    def test_offers_what_would_change_something(self, admin_client, coupon, is_enabled, offered):
        Coupon.objects.update(is_enabled=is_enabled)
        acts = admin_client.get(url(Coupon, "change", "TEN")).context["acts"]
        assert [act.label for act, _ in acts] == ["Raise the quantity", offered]


def test_a_page_tells_of_outcomes_and_queues(admin_client, answered):
    tables = {table.title: table for table in admin_client.get(url(Coupon, "change", "TEN")).context["tables"]}
    outcomes = {label: str(count) for label, count in tables["Requests"].rows}
    assert outcomes.keys() == {"Queued", "Success", "Out Of Stock"}
    assert ">2</a>" in outcomes["Success"]
    assert "status__exact=SUCCESS" in outcomes["Success"]
    waiting = {queue: (str(count), age) for queue, count, age in tables["Queues"].rows}
    assert waiting.keys() == {"Kafka", "Redis"}
    assert ">1</a>" in waiting["Kafka"][0]
    assert int(waiting["Kafka"][1].removesuffix(" s")) >= 90 > int(waiting["Redis"][1].removesuffix(" s"))


def test_a_page_of_a_coupon_nobody_asked_for_says_so(admin_client, coupon):
    page = admin_client.get(url(Coupon, "change", "TEN")).content.decode()
    assert "Nobody has asked." in page
    assert "Nobody waits." in page


def test_who_may_not_view_requests_sees_none(coupon, staff, client):
    staff.user_permissions.set(Permission.objects.filter(codename="view_coupon"))
    client.force_login(staff)
    assert list(client.get(url(Coupon, "change", "TEN")).context["tables"]) == []


@pytest.mark.parametrize("model", [Coupon, Request, IssuedCoupon])
def test_nothing_is_changed_or_deleted(admin_client, answered, model):
    row = model.objects.first()
    assert admin_client.get(url(model, "change", row.pk)).status_code == 200
    assert admin_client.post(url(model, "change", row.pk), {}).status_code == 403
    assert admin_client.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("model", [Request, IssuedCoupon])
def test_requests_and_issued_coupons_are_not_added(admin_client, answered, model):
    assert admin_client.get(url(model, "add")).status_code == 403


@pytest.mark.parametrize(
    ("model", "query", "expected"),
    [
        (Coupon, "q=ten", 1),
        (Coupon, "is_enabled__exact=0", 0),
        (Request, "q=TEN", 5),
        (Request, "q={id}", 1),
        (Request, "q=user-1", 1),
        (Request, "status__exact=OUT_OF_STOCK", 1),
        (Request, "queue__exact=REDIS", 1),
        (Request, "code=TEN&status__exact=QUEUED&queue__exact=KAFKA", 1),
        (IssuedCoupon, "q=TEN", 2),
        (IssuedCoupon, "q={id}", 1),
        (IssuedCoupon, "spent_on__isempty=1", 2),
    ],
)
def test_rows_are_found(admin_client, answered, model, query, expected):
    assert found(admin_client, model, query.format(id=answered[0].pk)) == expected


@pytest.mark.parametrize("model", [Coupon, Request, IssuedCoupon])
def test_a_list_of_many_asks_the_database_as_often_as_one_of_few(
    admin_client, answered, people, queued, model, django_assert_max_num_queries
):
    services.raise_quantity(code="TEN", quantity=50)
    services.decide(request_ids=[request.pk for request in queued(*people(20))])
    for number in range(10):
        services.create(code=f"C{number}", name="Many", quantity=1)
    with django_assert_max_num_queries(9):
        assert admin_client.get(url(model, "changelist")).status_code == 200


def act_on_request(client, name, request):
    """Send the form of an act on a request, and return what the person is told."""
    answer = client.post(url(Request, name, request.pk), {"once": str(uuid4())}, follow=True)
    return [str(message) for message in answer.context["messages"]] if answer.context else answer.status_code


class TestRequestsThatNobodyAnswers:
    def test_one_that_waits_is_given_up_and_may_be_asked_again(self, admin_client, coupon, people, queued):
        [request] = queued(*people(1))
        assert act_on_request(admin_client, "give_up", request) == ["Given up: System Error."]
        assert LogEntry.objects.get().object_id == str(request.pk)
        assert services.ask(user_id=request.user_id, code=coupon.pk)

    def test_one_that_was_given_up_is_decided_after_all(self, admin_client, coupon, people, queued):
        [request] = queued(*people(1))
        services.give_up(request_ids=[request.pk])
        assert act_on_request(admin_client, "decide", request) == ["Decided: Success."]
        assert IssuedCoupon.objects.get().request_id == request.pk

    def test_one_that_is_answered_stays_so(self, admin_client, answered):
        page = admin_client.get(url(Request, "change", answered[0].pk)).content.decode()
        assert url(Request, "decide", answered[0].pk) not in page
        assert act_on_request(admin_client, "decide", answered[2]) == ["Decided: Out Of Stock."]
        assert act_on_request(admin_client, "give_up", answered[0]) == ["Given up: Success."]

    def test_who_may_only_look_decides_nothing(self, client, staff, people, queued):
        [request] = queued(*people(1))
        staff.user_permissions.set(Permission.objects.filter(codename="view_request"))
        client.force_login(staff)
        assert act_on_request(client, "decide", request) == 403
        assert Request.objects.get(pk=request.pk).status == "QUEUED"
