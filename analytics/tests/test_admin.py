"""The page of charts: who sees it, and what it is told. tests/test_analytics.py looks at what it draws."""

import csv
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import Permission
from django.contrib.staticfiles import finders
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from analytics.tests.conftest import OrderStory

pytestmark = pytest.mark.django_db

PAGE, FIGURES, SALES, PRODUCTS = (
    f"admin:analytics_sales_{name}" for name in ("changelist", "figures", "sales_csv", "products_csv")
)


@pytest.fixture
def client(staff):
    """Somebody of the staff who may see sales, and nothing else."""
    staff.user_permissions.set(Permission.objects.filter(codename="view_sales"))
    client = Client()
    client.force_login(staff)
    return client


@pytest.fixture
def sold(outbox):
    """An order that was paid just now, one that was 40 days ago, and one that was given back just now."""
    now = timezone.now() - timedelta(minutes=10)
    outbox.deliver("analytics", *OrderStory(now).paid, *OrderStory(now).returned)
    outbox.deliver("analytics", *OrderStory(now - timedelta(days=40)).paid)


@pytest.mark.parametrize("page", [PAGE, FIGURES, SALES, PRODUCTS])
def test_needs_the_permission_to_view_sales(page, client, staff):
    assert client.get(reverse(page)).status_code == 200
    staff.user_permissions.clear()
    assert client.get(reverse(page)).status_code == 403
    answer = Client().get(reverse(page))
    assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={reverse(page)}")


def test_is_in_the_index_for_who_may(client, staff):
    assert reverse(PAGE) in client.get(reverse("admin:index")).content.decode()
    assert client.get(reverse("admin:app_list", args=["analytics"])).status_code == 200
    staff.user_permissions.clear()
    assert reverse(PAGE) not in client.get(reverse("admin:index")).content.decode()


def test_the_figures_are_those_of_the_range(client, sold):
    found = client.get(reverse(FIGURES), {"range": "24h"}).json()
    assert (found["currency"], found["bucket"], len(found["results"])) == ("USD", "hour", 24)
    assert found["totals"] == {"orders": 2, "units": 6, "revenue": "51.00", "refunds": "25.50"}
    found = client.get(reverse(FIGURES), {"range": "90d"}).json()
    assert (found["bucket"], len(found["results"])) == ("day", 90)
    assert found["funnel"]["created"] == 3
    assert found["funnel"]["seconds"]["created_to_completed"] == 240.0
    assert {row["sku"]: row["units"] for row in found["products"]} == {"A1": 6, "B2": 3}
    assert {row["event_type"]: row["count"] for row in found["activity"]}["order.completed"] == 3


@pytest.mark.parametrize(("name", "buckets"), [("24h", 24), ("7d", 7), ("30d", 30), ("90d", 90), ("", 24), ("\0", 24)])
def test_a_range_has_whole_buckets_and_another_is_the_first_one(client, name, buckets):
    assert len(client.get(reverse(FIGURES), {"range": name}).json()["results"]) == buckets
    assert client.get(reverse(PAGE), {"range": name}).status_code == 200


def test_the_figures_take_a_few_statements(client, sold, django_assert_max_num_queries):
    # Who asks, and what they may: 4. Sales, funnel, products, activity: 4.
    with django_assert_max_num_queries(8):
        client.get(reverse(FIGURES), {"range": "90d"})


def rows(answer):
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.reader(StringIO(answer.content.decode(), newline="")))


def test_sales_and_products_can_be_saved_as_csv(client, sold):
    answer = client.get(reverse(SALES), {"range": "90d"})
    assert answer["Content-Disposition"] == 'attachment; filename="sales.csv"'
    head, *days = rows(answer)
    assert (head[0], len(days)) == ("bucket", 90)
    assert sum(int(day[1]) for day in days) == 3
    answer = client.get(reverse(PRODUCTS), {"range": "90d"})
    assert answer["Content-Disposition"] == 'attachment; filename="products.csv"'
    assert [row[0] for row in rows(answer)] == ["sku", "A1", "B2"]


def test_nobody_adds_changes_or_deletes_a_row(admin_client):
    for place in ("add/", "1/", "1/change/", "1/delete/", "1/history/"):
        assert admin_client.get(reverse(PAGE) + place).status_code == 404


def test_the_page_loads_only_files_that_there_are_and_has_no_script_or_style_of_its_own(client):
    page = client.get(reverse(PAGE)).content.decode()
    for file in ("charts.css", "charts.js", "chart.js-4.6.1/chart.umd.min.js", "chart.js-4.6.1/LICENSE.md"):
        assert finders.find(f"analytics/{file}"), file
        assert file.endswith(".md") or f"/static/analytics/{file}" in page
    assert " style=" not in page
