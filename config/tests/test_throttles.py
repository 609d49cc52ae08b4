"""How often one may ask."""

import pytest
from django.test import RequestFactory
from rest_framework.settings import api_settings

from config import redis
from config.throttles import Counter, address

pytestmark = pytest.mark.django_db


def statuses(client, times, *, path="products/"):
    return [client.get(f"/api/v1/{path}").status_code for _ in range(times)]


def test_refuses_a_user_who_asks_too_often(api, customer, staff, settings, problem):
    settings.THROTTLE_USER_PER_MINUTE = 2
    assert statuses(api(customer), 2, path="users/me/") == [200, 200]
    # With another token and at another path too.
    answer = api(customer).post("/api/v1/orders/", {})
    assert problem(answer) == (429, "throttled")
    assert 0 < int(answer["Retry-After"]) <= 60
    assert statuses(api(staff), 1, path="users/me/") == [200]


def test_refuses_an_address_that_asks_too_often(api, anybody, customer, settings, problem):
    settings.THROTTLE_ADDRESS_PER_MINUTE = 2
    assert statuses(anybody, 2) == [200, 200]
    answer = anybody.post("/api/v1/users/", {})
    assert problem(answer) == (429, "throttled")
    assert 0 < int(answer["Retry-After"]) <= 60
    assert anybody.get("/api/v1/products/", REMOTE_ADDR="192.0.2.1").status_code == 200
    # Users are counted by themselves.
    assert statuses(api(customer), 1, path="users/me/") == [200]


def test_refuses_nobody_where_there_is_no_limit(anybody, settings):
    settings.THROTTLE_ADDRESS_PER_MINUTE = 0
    assert set(statuses(anybody, 5)) == {200}


def test_refuses_nobody_while_redis_is_away(anybody, settings, own_redis):
    settings.THROTTLE_ADDRESS_PER_MINUTE = 1
    with own_redis.away():
        assert statuses(anybody, 3) == [200] * 3


def test_refuses_nobody_while_redis_hangs(anybody, settings, own_redis):
    settings.THROTTLE_ADDRESS_PER_MINUTE = 1
    with own_redis.hanging():
        assert statuses(anybody, 3) == [200] * 3


def test_counts_again_when_the_time_is_over():
    counter = Counter("x", limit=1, seconds=1)
    assert counter.add() is None
    while (wait_seconds := counter.add()) is not None:
        assert 0 < wait_seconds <= 1


def test_counts_less_what_is_taken_back():
    counter = Counter("x", limit=2, seconds=60)
    # Of what was not counted, or not any more, nothing stays.
    counter.take_back()
    assert [counter.add() for _ in range(2)] == [None, None]
    counter.take_back()
    assert counter.add() is None
    assert counter.add() is not None


def test_begins_a_new_time_when_all_is_taken_back():
    Counter("x", limit=2, seconds=1000).add()
    Counter("x", limit=2, seconds=1000).take_back()
    counter = Counter("x", limit=0, seconds=1)
    counter.add()
    assert redis.quick().ttl(redis.key("throttle", "x")) <= 1


def test_believes_no_client_about_its_address(anybody, settings):
    settings.THROTTLE_ADDRESS_PER_MINUTE = 1
    answers = [anybody.get("/api/v1/products/", HTTP_X_FORWARDED_FOR=f"192.0.2.{n}").status_code for n in range(2)]
    assert answers == [200, 429]


@pytest.mark.parametrize(
    ("proxies", "forwarded", "found"),
    [
        (0, "192.0.2.9", "198.51.100.1"),
        (1, "192.0.2.9", "192.0.2.9"),
        # What stands before the proxies' own addresses, the client may have written.
        (1, "192.0.2.8, 192.0.2.9", "192.0.2.9"),
        (2, "192.0.2.7, 192.0.2.8, 192.0.2.9", "192.0.2.8"),
        (2, "192.0.2.9", "192.0.2.9"),
        (1, None, "198.51.100.1"),
        (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (1, "2001:db8:1:2::7", "2001:db8:1:2::/64"),
        (1, "::ffff:192.0.2.9", "192.0.2.9"),
        (1, "nonsense", "nonsense"),
        (1, "", ""),
    ],
)
def test_knows_an_address_by_as_many_proxies_as_there_are(monkeypatch, proxies, forwarded, found):
    monkeypatch.setattr(api_settings, "NUM_PROXIES", proxies)
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    assert address(RequestFactory().get("/", REMOTE_ADDR="198.51.100.1", headers=headers)) == found
