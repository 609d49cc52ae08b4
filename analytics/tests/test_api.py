"""What analytics answers over HTTP, to staff alone."""

import csv
from datetime import timedelta
from io import StringIO
from urllib.parse import quote

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.models import ProductSales
from analytics.reports import as_csv
from analytics.tests.conftest import NOON, OrderStory

pytestmark = pytest.mark.django_db

SALES, FUNNEL, PRODUCTS = (f"/api/v1/analytics/{name}/" for name in ("sales", "funnel", "products"))
DAY = {"from": "2026-11-21", "to": "2026-11-22"}
NOTHING = {"orders": 0, "units": 0, "revenue": "0.00", "refunds": "0.00"}


@pytest.fixture
def get(api, staff):
    """Return a function that asks as staff."""
    client = api(staff)

    def ask(path, accept="*/*", **query):
        return client.get(path, query, headers={"Accept": accept})

    return ask


@pytest.mark.parametrize("path", [SALES, FUNNEL, PRODUCTS])
def test_is_for_staff_alone(path, anybody, api, customer, staff, problem):
    assert problem(anybody.get(path)) == (401, "not_authenticated")
    assert problem(api(customer).get(path)) == (403, "permission_denied")
    assert api(staff).get(path).status_code == 200


@pytest.mark.parametrize("path", [SALES, FUNNEL, PRODUCTS])
def test_only_reads(path, api, staff, problem):
    assert problem(api(staff).post(path, {})) == (405, "method_not_allowed")


@pytest.mark.parametrize("accept", ["application/json", "text/csv"])
@pytest.mark.parametrize("path", [SALES, PRODUCTS])
def test_tells_by_no_other_method_whatever_is_accepted(path, accept, api, staff, problem):
    client = api(staff)
    assert problem(client.options(path, headers={"accept": accept})) == (405, "method_not_allowed")
    assert client.head(path, headers={"accept": accept}).status_code == 200


@pytest.mark.parametrize("path", [FUNNEL, PRODUCTS])
def test_adds_up_no_more_than_two_years(path, get, problem):
    assert get(path, **{"from": "2024-01-01", "to": "2026-01-01"}).status_code == 200
    assert problem(get(path, **{"from": "2023-01-01", "to": "2026-01-01"})) == (400, "invalid")


def test_sales_have_every_hour_of_the_range_those_without_any_too(get, outbox):
    outbox.deliver("analytics", *OrderStory(NOON + timedelta(minutes=55)).returned, *OrderStory().paid)
    answer = get(SALES, **DAY, bucket="hour")
    assert answer.json()["currency"] == "USD"
    hours = {hour.pop("bucket"): hour for hour in answer.json()["results"]}
    assert list(hours) == [f"2026-11-21T{hour:02}:00:00Z" for hour in range(24)]
    sold = {"orders": 2, "units": 6, "revenue": "51.00", "refunds": "0.00"}
    assert {bucket: hour for bucket, hour in hours.items() if hour != NOTHING} == {
        "2026-11-21T12:00:00Z": sold,
        "2026-11-21T13:00:00Z": {**NOTHING, "refunds": "25.50"},
    }


def test_sales_by_day_are_the_sum_of_its_hours(get, outbox):
    outbox.deliver("analytics", *OrderStory(NOON - timedelta(hours=12)).paid, *OrderStory().paid)
    answer = get(SALES, **{"from": "2026-11-20", "to": "2026-11-23"})
    sold = {"orders": 2, "units": 6, "revenue": "51.00", "refunds": "0.00"}
    assert answer.json()["results"] == [
        {"bucket": "2026-11-20T00:00:00Z", **NOTHING},
        {"bucket": "2026-11-21T00:00:00Z", **sold},
        {"bucket": "2026-11-22T00:00:00Z", **NOTHING},
    ]


@pytest.mark.parametrize(
    ("query", "first", "results"),
    [
        ({"from": "2026-11-21", "to": "2026-11-22"}, "2026-11-21T00:00:00Z", 1),
        ({"from": "2026-11-21T23:59:59Z", "to": "2026-11-22T00:00:01Z"}, "2026-11-21T00:00:00Z", 2),
        ({"from": "2026-11-21T00:00:00+01:00", "to": "2026-11-21"}, "2026-11-20T00:00:00Z", 1),
        ({"from": "2026-11-21t00:00:00.123456789z", "to": "2026-11-22"}, "2026-11-21T00:00:00Z", 1),
        ({"from": "2026-11-21 10:30:00-02:00", "to": "2026-11-21T14:00:00Z", "bucket": "hour"},
         "2026-11-21T12:00:00Z", 2),
        ({"to": "2026-11-21"}, "2026-10-22T00:00:00Z", 30),
        ({"to": "2026-11-21T12:30:00Z"}, "2026-10-23T00:00:00Z", 30),
        ({"to": "2026-11-21T12:30:00Z", "bucket": "hour"}, "2026-11-20T13:00:00Z", 24),
        ({"to": "2026-11-21", "bucket": "day"}, "2026-10-22T00:00:00Z", 30),
    ],
)  # fmt: skip
def test_a_range_is_rounded_to_whole_buckets(get, query, first, results):
    found = get(SALES, **query).json()["results"]
    assert (found[0]["bucket"], len(found)) == (first, results)


def test_a_range_without_an_end_goes_on_to_the_present_bucket(get):
    today = timezone.now().date()
    found = get(SALES, **{"from": (today - timedelta(days=6)).isoformat()}).json()["results"]
    # Midnight may have passed meanwhile.
    assert found[6]["bucket"] == f"{today}T00:00:00Z"
    assert get(SALES, bucket="hour").json()["results"][-1]["bucket"] >= f"{today}T00:00:00Z"


@pytest.mark.parametrize("path", [SALES, FUNNEL, PRODUCTS])
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": ""}, "from"),
        ({"from": "2026-02-30"}, "from"),
        ({"from": "20260221"}, "from"),
        ({"from": "2026-W05-1"}, "from"),
        ({"from": "2026-11-21T12:00:00"}, "from"),
        ({"from": "2026-11-21T24:00:00Z"}, "from"),
        ({"from": "0001-01-01T00:00:00+14:00"}, "from"),
        ({"to": "9999-12-31T23:59:59-14:00"}, "to"),
        ({"from": "9999-12-31", "to": "9999-12-31T23:30:00Z"}, "to"),
        ({"to": "0001-01-01"}, "to"),
        ({"to": "2026-11-21T12:00Z"}, "to"),
        ({"from": "2026-11-21", "to": "2026-11-21"}, "from"),
        ({"from": "2026-11-22", "to": "2026-11-21"}, "from"),
        ({"from": "9998-01-01"}, "from"),
        ({"to": "2026-11-21T12:00:00 01:00"}, "to"),
        ({"to": "٢٠٢٦-١١-٢١"}, "to"),
    ],
)
def test_a_range_that_is_none_is_refused(get, problem, path, query, field):
    answer = get(path, **query)
    assert problem(answer) == (400, "invalid")
    assert answer.json()["errors"].keys() == {field}


@pytest.mark.parametrize(
    ("path", "query", "code", "field"),
    [
        (SALES, {"bucket": "week"}, "invalid", "bucket"),
        (SALES, {"bucket": ""}, "invalid", "bucket"),
        (SALES, {"from": "2020-01-01", "to": "2026-01-01"}, "invalid", "from"),
        (SALES, {"from": "2026-01-01", "to": "2026-11-01", "bucket": "hour"}, "invalid", "from"),
        (SALES, {"limit": "5"}, "unknown_field", "limit"),
        (SALES, {"form": "2026-01-01"}, "unknown_field", "form"),
        (FUNNEL, {"bucket": "day"}, "unknown_field", "bucket"),
        (PRODUCTS, {"bucket": "day"}, "unknown_field", "bucket"),
        (PRODUCTS, {"limit": "0"}, "invalid", "limit"),
        (PRODUCTS, {"limit": "1001"}, "invalid", "limit"),
        (PRODUCTS, {"limit": "many"}, "invalid", "limit"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(get, problem, path, query, code, field):
    answer = get(path, **query)
    assert problem(answer) == (400, code)
    assert answer.json()["errors"].keys() == {field}


@pytest.mark.parametrize("path", [SALES, FUNNEL, PRODUCTS])
def test_survives_any_query(path, get, problem):
    names = st.sampled_from(["from", "to", "bucket", "limit", "format"])
    moments = st.datetimes().map(str) | st.dates().map(str) | st.datetimes().map(lambda moment: f"{moment}Z")

    @settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        query=st.dictionaries(names, moments | st.binary(max_size=20).map(quote) | st.integers().map(str), max_size=3)
    )
    def survives(query):
        answer = get(path, **query)
        assert answer.status_code == 200 or problem(answer)[0] == 400

    survives()


def test_the_funnel_says_how_far_the_orders_of_a_time_got_and_how_soon(get, outbox):
    for kind in ("paid", "returned", "paid_too_late", "rejected", "unpaid"):
        outbox.deliver("analytics", *getattr(OrderStory(), kind))
    outbox.deliver("analytics", *OrderStory(NOON - timedelta(days=1)).paid)
    assert get(FUNNEL, **DAY).json() == {
        "created": 5,
        "reserved": 4,
        "completed": 2,
        "cancelled": {"OUT_OF_STOCK": 1, "PAYMENT_FAILED": 1, "CUSTOMER": 1, "TIMEOUT": 1},
        "seconds": {
            "created_to_reserved": 120.0,
            "reserved_to_completed": 120.0,
            "created_to_completed": 240.0,
            # After 2, 4, 5 and 5 minutes.
            "created_to_cancelled": 240.0,
        },
    }


def test_a_funnel_without_orders_has_no_seconds(get):
    assert get(FUNNEL).json() == {
        "created": 0,
        "reserved": 0,
        "completed": 0,
        "cancelled": {"OUT_OF_STOCK": 0, "PAYMENT_FAILED": 0, "CUSTOMER": 0, "TIMEOUT": 0},
        "seconds": {
            "created_to_reserved": None,
            "reserved_to_completed": None,
            "created_to_completed": None,
            "created_to_cancelled": None,
        },
    }


def test_orders_are_in_the_funnel_of_when_they_were_placed_however_late_they_were_paid(get, outbox):
    outbox.deliver("analytics", *OrderStory(NOON.replace(hour=23, minute=58)).paid)
    assert get(FUNNEL, **DAY).json()["completed"] == 1
    assert get(SALES, **DAY).json()["results"][0]["orders"] == 0


def test_products_that_brought_most_come_first(get, outbox):
    outbox.deliver("analytics", *OrderStory().paid, *OrderStory(NOON - timedelta(days=1)).paid)
    first, second = {"sku": "A1", "units": 2, "revenue": "20.00"}, {"sku": "B2", "units": 1, "revenue": "5.50"}
    assert get(PRODUCTS, **DAY).json() == {"currency": "USD", "results": [first, second]}
    assert get(PRODUCTS, **DAY, limit=1).json()["results"] == [first]
    assert get(PRODUCTS, **{"from": "2026-11-20", "to": "2026-11-22"}).json()["results"][0]["units"] == 4


def rows(answer):
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.reader(StringIO(answer.content.decode(), newline="")))


def test_sales_are_given_as_csv(get, outbox):
    outbox.deliver("analytics", *OrderStory().returned)
    answer = get(SALES, "text/csv", **{"from": "2026-11-21", "to": "2026-11-23"})
    assert rows(answer) == [
        ["bucket", "orders", "units", "revenue", "refunds", "currency"],
        ["2026-11-21T00:00:00Z", "1", "3", "25.50", "25.50", "USD"],
        ["2026-11-22T00:00:00Z", "0", "0", "0.00", "0.00", "USD"],
    ]
    assert answer.content.endswith(b"\r\n")


def test_products_are_given_as_csv(get, outbox):
    assert rows(get(PRODUCTS, "text/csv")) == [["sku", "units", "revenue", "currency"]]
    outbox.deliver("analytics", *OrderStory().paid)
    assert rows(get(PRODUCTS, "text/csv, */*;q=0.1", **DAY))[1:] == [
        ["A1", "2", "20.00", "USD"],
        ["B2", "1", "5.50", "USD"],
    ]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_text_that_a_spreadsheet_would_take_for_a_formula_is_defused(get, begin):
    ProductSales.objects.create(hour=NOON, shard=0, sku=f"{begin}1+1", currency="USD", units=1, revenue="1.00")
    assert rows(get(PRODUCTS, "text/csv", **DAY))[1] == [f"'{begin}1+1", "1", "1.00", "USD"]


def test_a_number_below_zero_is_no_formula():
    assert (
        as_csv(("units", "currency"), {"currency": "USD", "results": [{"units": -1}]}) == "units,currency\r\n-1,USD\r\n"
    )


@pytest.mark.parametrize(("path", "accept"), [(SALES, "text/html"), (FUNNEL, "text/csv")])
def test_a_type_that_there_is_not_is_refused(get, problem, path, accept):
    assert problem(get(path, accept)) == (406, "not_acceptable")


def test_a_refusal_is_a_problem_for_who_accepts_csv_too(get, problem):
    assert problem(get(SALES, "text/csv", bucket="week")) == (400, "invalid")


@pytest.mark.parametrize(("path", "statements"), [(SALES, 1), (FUNNEL, 1), (PRODUCTS, 1)])
def test_asks_one_thing_of_the_database(get, outbox, django_assert_num_queries, path, statements):
    outbox.deliver("analytics", *OrderStory().paid)
    get(path)
    # Besides the token and its user.
    with django_assert_num_queries(statements + 1):
        get(path, **DAY)
