"""Coupons over HTTP."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from django.utils import timezone
from uuid_utils.compat import uuid7

from coupons import services
from coupons.models import Coupon, IssuedCoupon, Request

pytestmark = pytest.mark.django_db

COUPONS = "/api/v1/coupons/"
ISSUE = f"{COUPONS}TEN/issue/"
MINE = "/api/v1/my-coupons/"
REQUESTS = "/api/v1/coupon-requests/"
NEW = {"code": "SPRING", "name": "Spring sale", "quantity": 5}


def answered(outbox):
    """Let the group answer all requests."""
    outbox.run_to_rest(groups=["coupons"])


class TestCoupons:
    def test_staff_adds_one_and_everybody_reads_it(self, api, staff, customer):
        answer = api(staff).post(COUPONS, NEW)
        assert answer.status_code == 201
        coupon = {**NEW, "issued": 0, "starts_at": None, "ends_at": None, "status": "ACTIVE"}
        assert answer.json() == coupon
        client = api(customer)
        assert client.get(f"{COUPONS}SPRING/").json() == coupon
        assert client.get(f"{COUPONS}spring/").json() == coupon
        assert client.get(COUPONS).json() == {"results": [coupon], "next": None, "previous": None}

    def test_every_rule_is_kept(self, api, staff):
        rules = {
            "starts_at": "2026-11-21T21:00:00+01:00",
            "ends_at": "2026-11-22T20:00:00Z",
            "amount_off": "5.5",
            "minimum_total": "20",
            "registered_before": "2026-11-20T00:00:00Z",
        }
        answer = api(staff).post(COUPONS, {**NEW, "code": "spring-26_x", **rules}).json()
        assert (answer["code"], answer["starts_at"]) == ("SPRING-26_X", "2026-11-21T20:00:00Z")
        coupon = Coupon.objects.get()
        assert (str(coupon.amount_off), coupon.percent_off, str(coupon.minimum_total)) == ("5.50", None, "20.00")
        assert coupon.registered_before.isoformat() == "2026-11-20T00:00:00+00:00"

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"code": ""}, "code"),
            ({"code": "a b"}, "code"),
            ({"code": "É"}, "code"),
            ({"code": "x" * 65}, "code"),
            ({"code": "TEN\n"}, "code"),
            ({"code": 10}, "code"),
            ({"name": " "}, "name"),
            ({"name": "x" * 201}, "name"),
            ({"quantity": 0}, "quantity"),
            ({"quantity": "5"}, "quantity"),
            ({"quantity": 1_000_000_001}, "quantity"),
            ({"percent_off": 0}, "percent_off"),
            ({"percent_off": 101}, "percent_off"),
            ({"percent_off": 10.5}, "percent_off"),
            ({"amount_off": "0.00"}, "amount_off"),
            ({"amount_off": 5}, "amount_off"),
            ({"percent_off": 10, "amount_off": "5.00"}, "amount_off"),
            ({"minimum_total": "-1"}, "minimum_total"),
            ({"starts_at": "soon"}, "starts_at"),
            ({"starts_at": "2026-11-21T20:00:00Z", "ends_at": "2026-11-21T20:00:00Z"}, "ends_at"),
            ({"issued": 1}, "issued"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, api, staff, problem, change, field):
        answer = api(staff).post(COUPONS, {**NEW, **change})
        assert problem(answer)[0] == 400
        assert answer.json()["errors"].keys() == {field}
        assert not Coupon.objects.exists()

    @pytest.mark.parametrize("field", NEW)
    def test_what_is_missing_is_refused(self, api, staff, problem, field):
        answer = api(staff).post(COUPONS, {name: value for name, value in NEW.items() if name != field})
        assert problem(answer) == (400, "invalid")
        assert answer.json()["errors"].keys() == {field}

    def test_a_code_that_is_taken_is_refused_in_any_case(self, api, staff, problem, coupon):
        assert problem(api(staff).post(COUPONS, {**NEW, "code": "ten"})) == (400, "duplicate_code")

    def test_only_staff_adds(self, api, customer, anybody, problem):
        assert problem(api(customer).post(COUPONS, NEW)) == (403, "permission_denied")
        assert problem(anybody.post(COUPONS, NEW)) == (401, "not_authenticated")

    @pytest.mark.parametrize("path", [COUPONS, f"{COUPONS}TEN/", MINE, f"{REQUESTS}{UUID(int=0)}/"])
    def test_only_users_read(self, anybody, coupon, problem, path):
        assert problem(anybody.get(path)) == (401, "not_authenticated")

    def test_an_unknown_code_is_not_found(self, api, customer, problem):
        client = api(customer)
        assert problem(client.get(f"{COUPONS}NONE/")) == (404, "not_found")
        assert problem(client.post(f"{COUPONS}NONE/issue/")) == (404, "not_found")

    def test_the_newest_come_first_page_by_page(self, api, customer):
        for number in range(5):
            services.create(code=f"C{number}", name="Many", quantity=1)
        client = api(customer)
        page = client.get(f"{COUPONS}?page_size=3").json()
        assert [coupon["code"] for coupon in page["results"]] == ["C4", "C3", "C2"]
        assert [coupon["code"] for coupon in client.get(page["next"]).json()["results"]] == ["C1", "C0"]


class TestRequests:
    def test_is_accepted_and_answered_later(self, api, customer, coupon, outbox):
        client = api(customer)
        answer = client.post(ISSUE)
        assert answer.status_code == 202
        request_id = answer.json()["request_id"]
        assert answer.json() == {"request_id": request_id, "status": "QUEUED"}
        assert UUID(request_id).version == 7
        assert answer["Location"] == f"{REQUESTS}{request_id}/"
        waiting = client.get(answer["Location"]).json()
        assert waiting == {
            "request_id": request_id,
            "code": "TEN",
            "status": "QUEUED",
            "position": 1,
            "created_at": waiting["created_at"],
            "finished_at": None,
        }
        answered(outbox)
        done = client.get(answer["Location"]).json()
        assert done == {
            **{name: value for name, value in waiting.items() if name != "position"},
            "status": "SUCCESS",
            "finished_at": done["finished_at"],
        }
        assert done["finished_at"] > done["created_at"]

    def test_a_place_tells_how_many_are_ahead(self, api, people, coupon, queued, customer):
        queued(*people(2))
        client = api(customer)
        assert client.get(client.post(f"{COUPONS}ten/issue/")["Location"]).json()["position"] == 3

    def test_who_waits_or_has_it_is_refused(self, api, customer, coupon, outbox, problem):
        client = api(customer)
        client.post(ISSUE)
        assert problem(client.post(ISSUE)) == (409, "duplicate_request")
        answered(outbox)
        assert problem(client.post(ISSUE)) == (409, "duplicate_request")

    def test_who_comes_too_late_is_refused(self, api, customer, coupon, people, queued, problem):
        services.decide(request_ids=[request.pk for request in queued(*people(2))])
        assert problem(api(customer).post(ISSUE)) == (409, "out_of_stock")
        assert not Request.objects.filter(user=customer).exists()

    @pytest.mark.parametrize(
        ("rules", "expected"),
        [
            ({}, "SUCCESS"),
            ({"is_enabled": False}, "BUSINESS_ERROR"),
            ({"starts_at": timezone.now() + timedelta(days=1)}, "BUSINESS_ERROR"),
            ({"ends_at": timezone.now() - timedelta(days=1)}, "BUSINESS_ERROR"),
            ({"registered_before": timezone.now() - timedelta(days=1)}, "VALIDATION_FAILED"),
        ],
    )
    def test_tells_what_it_came_to(self, api, customer, coupon, outbox, rules, expected):
        Coupon.objects.update(**rules)
        client = api(customer)
        path = client.post(ISSUE)["Location"]
        answered(outbox)
        assert client.get(path).json()["status"] == expected

    def test_tells_that_it_could_not_be_decided(self, api, customer, coupon, queued):
        [request] = queued(customer)
        services.give_up(request_ids=[request.pk])
        client = api(customer)
        assert client.get(f"{REQUESTS}{request.pk}/").json()["status"] == "SYSTEM_ERROR"
        assert client.post(ISSUE).status_code == 202

    def test_tells_who_was_out_of_stock_or_too_many(self, api, customer, people, coupon, queued):
        requests = queued(*people(1), customer, customer)
        services.decide(request_ids=[request.pk for request in requests])
        [others] = queued(*people(1))
        services.decide(request_ids=[others.pk])
        assert Request.objects.get(pk=requests[2].pk).status == "DUPLICATE_REQUEST"
        assert api(others.user).get(f"{REQUESTS}{others.pk}/").json()["status"] == "OUT_OF_STOCK"

    def test_somebody_elses_is_not_found(self, api, customer, staff, coupon, queued, problem):
        [request] = queued(customer)
        assert problem(api(staff).get(f"{REQUESTS}{request.pk}/")) == (404, "not_found")

    def test_takes_no_body(self, api, customer, coupon, problem):
        assert problem(api(customer).post(ISSUE, {"user": "bob"})) == (400, "unknown_field")

    @pytest.mark.django_db(transaction=True)
    def test_a_key_brings_the_first_answer_again_before_any_refusal(
        self, api, customer, people, coupon, queued, problem
    ):
        client = api(customer)
        first = client.post(ISSUE, HTTP_IDEMPOTENCY_KEY="once")
        services.decide(request_ids=[first.json()["request_id"], *[request.pk for request in queued(*people(2))]])
        again = client.post(ISSUE, HTTP_IDEMPOTENCY_KEY="once")
        assert (again.status_code, again.json()) == (202, first.json())
        assert again["Idempotent-Replayed"] == "true"
        assert again["Location"] == first["Location"]
        assert problem(client.post(ISSUE, HTTP_IDEMPOTENCY_KEY="another")) == (409, "duplicate_request")
        assert problem(client.post(ISSUE)) == (409, "duplicate_request")

    def test_a_refusal_is_not_kept_under_a_key(self, api, customer, people, coupon, queued, problem):
        services.decide(request_ids=[request.pk for request in queued(*people(2))])
        client = api(customer)
        assert problem(client.post(ISSUE, HTTP_IDEMPOTENCY_KEY="once")) == (409, "out_of_stock")
        services.raise_quantity(code="TEN", quantity=3)
        assert client.post(ISSUE, HTTP_IDEMPOTENCY_KEY="once").status_code == 202


def test_lists_ones_own_coupons_the_newest_first(api, customer, people, coupon, queued):
    services.create(code="FIVE", name="Five off", quantity=1, amount_off="5.00")
    order_id = uuid7()
    for request in [*queued(customer, *people(1)), *queued(customer, code="FIVE")]:
        services.decide(request_ids=[request.pk])
    services.redeem(user_id=customer.pk, code="TEN", order_id=order_id, total=Decimal("5.00"), now=timezone.now())
    found = api(customer).get(MINE).json()
    assert found["results"] == [
        {"code": "FIVE", "name": "Five off", "issued_at": found["results"][0]["issued_at"], "spent_on": None},
        {"code": "TEN", "name": "Ten off", "issued_at": found["results"][1]["issued_at"], "spent_on": str(order_id)},
    ]
    assert IssuedCoupon.objects.count() == 3
