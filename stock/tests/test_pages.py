"""Product pages in Redis: right after each change, read by one of many, and right without Redis."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial

import pytest
from django.db import connection, transaction
from prometheus_client import REGISTRY
from uuid_utils.compat import uuid7

from config.redis import PAUSE_SECONDS, quick
from orders.events import Line, OrderCreated
from stock import pages, services
from stock.models import Product
from stock.pages import _key
from stock.services import ReserveRequest
from stock.views import body_of

pytestmark = pytest.mark.django_db

PATH = "/api/v1/products/A1/"


def load():
    product = Product.objects.with_levels().get(pk="A1")
    return product.level.version, body_of(product)


def read():
    """Return A1's page, by Redis or by PostgreSQL."""
    page = pages.find("A1")
    return json.loads(page if page is not None else pages.read("A1", load))


def is_kept():
    return pages.find("A1") is not None


def elsewhere(call):
    """Make a call on another connection and return what it returns."""

    def close_after():
        try:
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(close_after).result()


def reserve(order_id, units=1):
    services.reserve(requests=[ReserveRequest(order_id, {"A1": units})])


@pytest.fixture(autouse=True)
def long_lives(monkeypatch):
    """Let no page and no lease end while a test runs, however slow the machine is."""
    monkeypatch.setattr(pages, "PAGE_SECONDS", 30)
    monkeypatch.setattr(pages, "LEASE_SECONDS", 20)


@pytest.fixture
def held(goods):
    """An order that holds one unit of A1."""
    order_id = uuid7()
    reserve(order_id)
    return order_id


CHANGES = {
    "update_product": lambda held: services.update_product(sku="A1", name="New", price=Decimal("12.00")),
    "receive": lambda held: services.receive(sku="A1", quantity=3),
    "reserve": lambda held: reserve(uuid7()),
    "sell": lambda held: services.sell(order_ids=[held]),
    "release": lambda held: services.release(order_ids=[held]),
}
real_commits = pytest.mark.django_db(transaction=True)
changes = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


def test_a_page_that_was_read_is_read_from_redis(goods, django_assert_num_queries):
    first = read()
    with django_assert_num_queries(0):
        assert read() == first
    assert first["available"] == 5


@changes
def test_a_page_is_right_after_each_change(held, change):
    read()
    change(held)
    assert read() == json.loads(load()[1])
    assert is_kept()
    assert read() == json.loads(load()[1])


@real_commits
@changes
def test_an_old_page_is_not_shown_once_the_change_could_be_committed(held, change):
    before = read()
    with transaction.atomic():
        change(held)
        assert not is_kept()
        # To others it has not happened yet.
        assert elsewhere(read) == before
        assert not is_kept()
    assert read() == json.loads(load()[1])
    assert is_kept()


def test_a_change_that_was_rolled_back_is_never_shown(goods):
    before = read()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        services.receive(sku="A1", quantity=1)
        raise ZeroDivisionError
    assert read() == before
    # Another one makes the same version, and with it the page good.
    services.receive(sku="A1", quantity=2)
    assert read()["available"] == 7
    assert is_kept()


@real_commits
def test_no_old_page_outlives_a_crash_after_the_commit(goods, outbox):
    read()
    created = OrderCreated(
        order_id=uuid7(),
        customer_id=uuid7(),
        lines=[Line(sku="A1", quantity=2, unit_price=Decimal("10.00"))],
        total=Decimal("20.00"),
        currency="USD",
    )
    outbox.deliver("stock", created, crash_at=["after the commit"])
    assert read()["available"] == 3


@real_commits
def test_one_of_many_who_ask_at_once_reads_a_page(goods, at_once, monkeypatch):
    monkeypatch.setattr(pages, "WAIT_SECONDS", 20)
    loads = []

    def slowly():
        loads.append(1)
        time.sleep(0.05)
        return load()

    found = at_once(*[lambda: pages.read("A1", slowly)] * 10)
    assert found == [load()[1]] * 10
    assert len(loads) == 1


@real_commits
def test_nobody_waits_long_for_one_who_reads_slowly(goods, at_once):
    done = []

    def slowly():
        while not done:
            time.sleep(0.01)
        return load()

    def quickly():
        while not quick().exists(_key("lease", "A1")):
            time.sleep(0.01)
        page = pages.read("A1", load)
        done.append(1)
        return page

    assert at_once(partial(pages.read, "A1", slowly), quickly) == [load()[1]] * 2


def test_a_page_that_changed_while_it_was_read_is_not_kept(goods):
    def load_and_change():
        found = load()
        services.receive(sku="A1", quantity=1)
        return found

    assert json.loads(pages.read("A1", load_and_change))["available"] == 5
    assert not is_kept()
    assert read()["available"] == 6


def test_a_page_that_was_read_for_longer_than_the_lease_is_not_kept(goods):
    def load_late():
        found = load()
        quick().delete(_key("lease", "A1"))
        return found

    pages.read("A1", load_late)
    assert not is_kept()


def test_who_cannot_read_a_page_lets_the_next_one_try_at_once(goods):
    def fail():
        raise LookupError

    with pytest.raises(LookupError):
        pages.read("A1", fail)
    assert not quick().exists(_key("lease", "A1"))
    assert not is_kept()


def test_a_floor_is_never_lowered(goods):
    version, _ = load()
    pages.mark_changed({"A1": version + 2})
    pages.mark_changed({"A1": version + 1})
    services.receive(sku="A1", quantity=1)
    read()
    assert not is_kept()
    services.receive(sku="A1", quantity=1)
    read()
    assert is_kept()


def test_pages_floors_and_leases_end_by_themselves(goods):
    def load_and_look():
        assert 0 < quick().ttl(_key("lease", "A1")) <= pages.LEASE_SECONDS
        return load()

    pages.read("A1", load_and_look)
    assert 0 < quick().ttl(_key("page", "A1")) <= pages.PAGE_SECONDS
    assert pages.PAGE_SECONDS + pages.LEASE_SECONDS < quick().ttl(_key("floor", "A1")) <= pages.FLOOR_SECONDS


def test_without_the_cache_every_page_is_read_from_postgresql(goods, settings, django_assert_num_queries):
    settings.PRODUCT_CACHE = False
    for _ in range(2):
        with django_assert_num_queries(1):
            assert read()["available"] == 5
    assert not quick().exists(_key("page", "A1"))


@pytest.mark.parametrize("trouble", ["away", "hanging"])
class TestRedis:
    def test_in_trouble_leaves_pages_right(self, own_redis, held, trouble):
        read()
        with getattr(own_redis, trouble)():
            for change in CHANGES.values():
                change(held)
                assert read() == json.loads(load()[1])

    def test_that_comes_back_shows_no_old_page(self, own_redis, goods, trouble):
        read()
        with getattr(own_redis, trouble)():
            services.receive(sku="A1", quantity=1)
        assert read()["available"] == 6
        time.sleep(PAUSE_SECONDS)
        assert read()["available"] == 6
        assert is_kept()


def test_redis_that_was_away_shows_no_old_page_to_who_did_not_notice(own_redis, goods, settings):
    read()
    # So that it comes back with the page.
    quick().execute_command("WAITAOF", 1, 0, 5000)
    settings.PRODUCT_CACHE = False
    with own_redis.away():
        services.receive(sku="A1", quantity=1)
    settings.PRODUCT_CACHE = True
    assert quick().exists(_key("page", "A1"))
    assert read()["available"] == 6


# ── Over HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_page_from_redis_is_answered_as_one_from_postgresql_is(goods, client, django_assert_num_queries):
    from_postgresql = client.get(PATH)
    with django_assert_num_queries(0):
        from_redis = client.get(PATH)
    assert from_redis.content == from_postgresql.content
    for name in (
        "Content-Type",
        "Content-Length",
        "ETag",
        "Cache-Control",
        "X-Content-Type-Options",
        "X-Frame-Options",
    ):
        assert from_redis[name] == from_postgresql[name]


def test_a_page_from_redis_is_counted_under_its_route(goods, client):
    client.get(PATH)
    labels = {"method": "GET", "route": r"/api/v1/products/(?P<sku>[^/\x00]{1,64})/$"}
    seconds = partial(REGISTRY.get_sample_value, "http_request_seconds_count", labels)
    before = seconds()
    client.get(PATH)
    assert seconds() == before + 1


def test_a_page_from_redis_is_refused_as_others_are(goods, client):
    client.get(PATH)
    assert client.get(PATH, headers={"Host": "elsewhere.example"}).status_code == 400
    assert client.get(PATH, headers={"Transfer-Encoding": "chunked"}).status_code == 411
    assert client.delete(PATH).status_code == 405
