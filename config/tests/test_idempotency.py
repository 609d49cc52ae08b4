"""A request that is sent again under its Idempotency-Key is answered again, and not done again."""

import hashlib
import json
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.utils import timezone

import stock.services
from accounts.models import Follow, User
from config import idempotency, redis
from config.models import IdempotencyKey
from orders.models import Order
from outbox.testing.crashing import crashing
from payments.models import Wallet

pytestmark = pytest.mark.django_db

ORDER = {"items": [{"sku": "A1", "quantity": 1}]}
DORA = {"username": "dora", "email": "dora@example.com", "password": "correct horse"}
CREATING = {
    "products/": {"sku": "B2", "name": "Lamp", "price": "12.50"},
    "products/A1/receipts/": {"quantity": 5},
    "orders/": ORDER,
    "wallet/deposits/": {"amount": "12.50"},
    "posts/": {"title": "Tea", "body": "It wants boiling water."},
}


@pytest.fixture(autouse=True)
def product(db):
    return stock.services.add_product(sku="A1", name="Lamp", price="12.50")


def post(client, path, body, key, **headers):
    return client.post(f"/api/v1/{path}", body, headers={"Idempotency-Key": key, **headers})


def scope_of_order(user, key):
    text = json.dumps(["user", str(user.pk), "POST", "/api/v1/orders/", key], separators=(",", ":"))
    return UUID(bytes=hashlib.sha256(text.encode()).digest()[:16])


@contextmanager
def in_flight(scope):
    """Hold a scope's lock in another transaction, as a request that is being answered does."""
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [int.from_bytes(scope.bytes[:8], signed=True)])
        yield
    finally:
        other.close()


@pytest.mark.parametrize("path", CREATING)
def test_answers_again_without_doing_it_again(api, staff, rows, path):
    client = api(staff)
    first = post(client, path, CREATING[path], "k")
    done = rows()
    second = post(client, path, CREATING[path], "k")

    assert first.status_code in (201, 202)
    assert "Idempotent-Replayed" not in first
    assert second["Idempotent-Replayed"] == "true"
    for answer in (first, second):
        assert answer["Content-Type"] == "application/json"
        assert answer["Cache-Control"] == "no-store"
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert second.get("Location") == first.get("Location")
    assert rows() == done


@pytest.mark.parametrize("path", CREATING)
def test_answers_like_a_request_without_a_key(api, staff, path):
    body, another = CREATING[path], {"sku": "C3"} if path == "products/" else {}
    with_key = post(api(staff), path, body, "k")
    without = api(staff).post(f"/api/v1/{path}", {**body, **another})
    assert with_key.json().keys() == without.json().keys()
    assert with_key.headers.keys() == without.headers.keys()


def test_answers_again_where_there_is_nothing_to_say(api, customer, staff):
    client = api(customer)
    without = client.post("/api/v1/users/steve/follow/")
    first = post(client, "users/steve/follow/", None, "k")
    client.delete("/api/v1/users/steve/follow/")
    second = post(client, "users/steve/follow/", None, "k")

    assert first.headers == without.headers
    assert second.headers == {**first.headers, "Idempotent-Replayed": "true"}
    for answer in (without, first, second):
        assert (answer.status_code, answer.content) == (204, b"")
    assert not Follow.objects.exists()


def test_tells_again_where_the_order_is(api, customer):
    for _ in range(2):
        answer = post(api(customer), "orders/", ORDER, "k")
        assert answer["Location"].endswith(f"/{answer.json()['id']}/")


def test_does_again_what_has_another_key_or_none(api, customer):
    client = api(customer)
    for _ in range(2):
        client.post("/api/v1/orders/", ORDER)
        post(client, "orders/", ORDER, str(uuid4()))
    assert Order.objects.count() == 4


def test_knows_a_body_in_another_order_and_with_other_spaces(api, customer):
    client = api(customer)
    post(client, "orders/", {"items": [{"sku": "A1", "quantity": 1}]}, "k")
    again = client.generic(
        "POST",
        "/api/v1/orders/",
        b' { "items" : [ { "quantity":1, "sku":"\\u00411" } ] }',
        content_type="application/json",
        headers={"Idempotency-Key": "k"},
    )
    assert again["Idempotent-Replayed"] == "true"


def test_refuses_another_body_under_the_same_key(api, customer, rows, problem):
    client = api(customer)
    post(client, "orders/", ORDER, "k")
    done = rows()
    for other in ({"items": [{"sku": "A1", "quantity": 2}]}, {}, {"nonsense": 1}):
        assert problem(post(client, "orders/", other, "k")) == (422, "idempotency_key_reused")
    assert rows() == done


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", '"a"'),
        ("two words", '"two words"'),
        ('a"b', r'"a\"b"'),
        ("a\\b", r'"a\\b"'),
        (" a\t", "a"),
        ("~!#,;=", '"~!#,;="'),
        ("x" * 255, f'"{"x" * 255}"'),
        # 255 signs, each of which is two in quotes.
        ("\\" * 255, '"' + "\\\\" * 255 + '"'),
    ],
)
def test_takes_a_key_bare_and_in_quotes_for_the_same(api, customer, one, other):
    client = api(customer)
    assert post(client, "orders/", ORDER, one).status_code == 202
    assert post(client, "orders/", ORDER, other)["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize(
    "key",
    ["", " ", '""', '"', '"a', '"a"b"', r'"a\b"', '"a"; b=1', "x" * 256, f'"{"x" * 256}"', "é", "a\tb", "a\x7f", "키"],
)
def test_takes_nothing_else_for_a_key(api, customer, rows, problem, key):
    done = rows()
    assert problem(post(api(customer), "orders/", ORDER, key.encode().decode("latin-1"))) == (
        400,
        "invalid_idempotency_key",
    )
    assert rows() == done


def test_keeps_users_methods_and_paths_apart(api, customer, staff):
    answers = [
        post(api(customer), "orders/", ORDER, "k"),
        post(api(staff), "orders/", ORDER, "k"),
        post(api(staff), "wallet/deposits/", {"amount": "12.50"}, "k"),
        post(api(staff), "products/A1/receipts/", {"quantity": 5}, "k"),
    ]
    assert all("Idempotent-Replayed" not in answer for answer in answers)
    assert len({answer.content for answer in answers}) == 4


def test_takes_no_notice_of_a_key_where_nothing_is_created(api, customer, problem):
    client = api(customer)
    order = client.post("/api/v1/orders/", ORDER).json()["id"]
    assert post(client, f"orders/{order}/cancel/", {}, "k").status_code == 202
    assert problem(post(client, f"orders/{order}/cancel/", {}, "k")) == (409, "already_cancelled")
    assert post(client, "auth/token/", {"username": "carol", "password": "a password of hers"}, "").status_code == 200
    assert not IdempotencyKey.objects.exists()


# ── Who asks ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_registers_once_and_answers_by_the_name_in_the_body(anybody, problem, outbox):
    first, second = (post(anybody, "users/", DORA, "k") for _ in range(2))
    assert first.status_code == second.status_code == 201
    assert first.content == second.content
    assert outbox.types == ["user.created"]

    erin = {**DORA, "username": "erin", "email": "erin@example.com"}
    assert "Idempotent-Replayed" not in post(anybody, "users/", erin, "k")
    assert problem(post(anybody, "users/", {**DORA, "password": "another horse"}, "k")) == (
        422,
        "idempotency_key_reused",
    )


@pytest.mark.parametrize("body", [{}, {"username": None}, {"username": 1}, [], "dora", None])
def test_refuses_a_registration_of_nobody(anybody, problem, body):
    assert problem(post(anybody, "users/", body, "k")) == (400, "invalid")


def test_keeps_no_password_in_a_form_that_can_be_guessed(anybody):
    post(anybody, "users/", DORA, "k")
    row = IdempotencyKey.objects.get()
    assert row.fingerprint != hashlib.sha256(idempotency.canonical(DORA)).hexdigest()
    assert b"correct horse" not in bytes(row.body)


def test_tells_nothing_without_a_token_or_without_the_right(api, anybody, staff, problem):
    product = CREATING["products/"]
    post(api(staff), "products/", product, "k")
    assert problem(post(anybody, "products/", product, "k"))[0] == 401
    User.objects.update(is_staff=False)
    assert problem(post(api(staff), "products/", product, "k")) == (403, "permission_denied")


def test_counts_replays_for_the_throttle(api, customer, settings, problem):
    client = api(customer)
    settings.THROTTLE_USER_PER_MINUTE = 2
    assert [post(client, "orders/", ORDER, "k").status_code for _ in range(2)] == [202, 202]
    assert problem(post(client, "orders/", ORDER, "k")) == (429, "throttled")


# ── What is stored ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_replays_before_any_refusal(api, customer):
    client = api(customer)
    first = post(client, "orders/", ORDER, "k")
    stock.services.update_product(sku="A1", active=False)
    assert post(client, "orders/", ORDER, "k").content == first.content
    assert client.post("/api/v1/orders/", ORDER).status_code == 400


def test_stores_no_refusal(api, customer, problem):
    client, body = api(customer), {"items": [{"sku": "NEW", "quantity": 1}]}
    assert problem(post(client, "orders/", body, "k")) == (400, "unknown_sku")
    assert problem(post(client, "orders/", {"nonsense": 1}, "k"))[0] == 400
    assert not IdempotencyKey.objects.exists()

    stock.services.add_product(sku="NEW", name="New", price="1.00")
    answer = post(client, "orders/", body, "k")
    assert answer.status_code == 202
    assert "Idempotent-Replayed" not in answer


def test_stores_nothing_of_what_is_not_json(api, customer, problem):
    client = api(customer)
    answer = client.generic(
        "POST", "/api/v1/orders/", b"{", content_type="application/json", headers={"Idempotency-Key": "k"}
    )
    assert problem(answer) == (400, "parse_error")
    assert not IdempotencyKey.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_leaves_nothing_when_it_crashes_before_the_commit(api, customer, outbox):
    client = api(customer)
    outbox.crash(lambda: post(client, "orders/", ORDER, "k"))
    assert not Order.objects.exists()
    assert not IdempotencyKey.objects.exists()
    assert "Idempotent-Replayed" not in post(client, "orders/", ORDER, "k")
    assert Order.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_answers_a_client_that_never_heard_of_the_commit(api, customer):
    client = api(customer)
    with crashing("after the commit", connection):
        post(client, "orders/", ORDER, "k")
    assert post(client, "orders/", ORDER, "k")["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


def test_does_again_what_was_done_a_day_ago(api, customer):
    client = api(customer)
    first = post(client, "orders/", ORDER, "k")
    IdempotencyKey.objects.update(created_at=timezone.now() - idempotency.RETENTION - timedelta(seconds=1))
    other = {"items": [{"sku": "A1", "quantity": 2}]}
    second = post(client, "orders/", other, "k")
    assert second.status_code == 202
    assert second.json()["id"] != first.json()["id"]
    assert post(client, "orders/", other, "k").content == second.content


def test_still_knows_what_was_done_a_moment_less_than_a_day_ago(api, customer):
    client = api(customer)
    post(client, "orders/", ORDER, "k")
    IdempotencyKey.objects.update(created_at=timezone.now() - idempotency.RETENTION + timedelta(minutes=1))
    assert post(client, "orders/", ORDER, "k")["Idempotent-Replayed"] == "true"


# ── At once ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def all_at_once(api, customer, at_once, *, times):
    """Send one order many times at once under one key, check that it is one, and return how often each status came."""
    clients = [api(customer) for _ in range(times)]
    answers = at_once(*[lambda client=client: post(client, "orders/", ORDER, "k") for client in clients])
    taken = [answer for answer in answers if answer.status_code == 202]
    assert Order.objects.count() == 1
    assert len({answer.content for answer in taken}) == 1
    assert sum("Idempotent-Replayed" not in answer for answer in taken) == 1
    assert {answer.json()["code"] for answer in answers if answer not in taken} <= {"idempotency_in_flight"}
    assert post(clients[0], "orders/", ORDER, "k").content == taken[0].content
    return Counter(answer.status_code for answer in answers)


@pytest.mark.django_db(transaction=True)
def test_makes_one_order_of_fifty_requests_at_once(api, customer, at_once):
    assert all_at_once(api, customer, at_once, times=50).keys() <= {202, 409}


@pytest.mark.django_db(transaction=True)
def test_makes_one_order_of_twenty_requests_at_once_while_redis_is_away(api, customer, at_once, own_redis):
    with own_redis.away():
        assert all_at_once(api, customer, at_once, times=20).keys() <= {202, 409}


@pytest.mark.django_db(transaction=True)
def test_makes_one_order_of_twenty_requests_at_once_while_redis_hangs(api, customer, at_once, own_redis):
    with own_redis.hanging():
        assert all_at_once(api, customer, at_once, times=20).keys() <= {202, 409}


@pytest.mark.django_db(transaction=True)
def test_registers_one_of_ten_requests_at_once(anybody, at_once, problem):
    answers = at_once(*[lambda: post(anybody, "users/", DORA, "k")] * 10)
    assert Counter(answer.status_code for answer in answers).keys() <= {201, 409}
    assert User.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_asks_to_come_back_while_another_transaction_has_the_key(api, customer, problem):
    client = api(customer)
    with in_flight(scope_of_order(customer, "k")):
        answer = post(client, "orders/", ORDER, "k")
        assert problem(answer) == (409, "idempotency_in_flight")
        assert answer["Retry-After"] == "1"
        assert post(client, "orders/", ORDER, "another").status_code == 202
    assert post(client, "orders/", ORDER, "k").status_code == 202


def test_asks_to_come_back_while_redis_says_that_another_has_the_key(api, customer, problem):
    client, mark = api(customer), redis.key("idempotency", str(scope_of_order(customer, "k")))
    redis.quick().set(mark, "another's")
    answer = post(client, "orders/", ORDER, "k")
    assert problem(answer) == (409, "idempotency_in_flight")
    assert answer["Retry-After"] == "1"
    assert redis.quick().get(mark) == b"another's"

    redis.quick().delete(mark)
    assert post(client, "orders/", ORDER, "k").status_code == 202


def test_replays_whatever_redis_says(api, customer):
    client = api(customer)
    post(client, "orders/", ORDER, "k")
    redis.quick().set(redis.key("idempotency", str(scope_of_order(customer, "k"))), "of a process that died")
    assert post(client, "orders/", ORDER, "k")["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("body", [ORDER, {"nonsense": 1}])
def test_leaves_no_mark_in_redis(api, customer, body):
    post(api(customer), "orders/", body, "k")
    assert not redis.quick().exists(redis.key("idempotency", str(scope_of_order(customer, "k"))))


def test_lets_a_mark_in_redis_end_by_itself(customer):
    scope = uuid4()
    with idempotency.guarded(scope):
        seconds = redis.quick().ttl(redis.key("idempotency", str(scope)))
    assert 0 < seconds <= idempotency.GUARD_SECONDS


def test_leaves_anothers_mark_alone(customer):
    scope = uuid4()
    mark = redis.key("idempotency", str(scope))
    with idempotency.guarded(scope) as is_free:
        assert is_free
        # As when its own has ended, since it took too long.
        redis.quick().set(mark, "another's")
    assert redis.quick().get(mark) == b"another's"


def test_deposits_once_when_redis_goes_away_in_between(api, staff, own_redis):
    client = api(staff)
    post(client, "wallet/deposits/", {"amount": "12.50"}, "k")
    with own_redis.away():
        post(client, "wallet/deposits/", {"amount": "12.50"}, "k")
    post(client, "wallet/deposits/", {"amount": "12.50"}, "k")
    assert str(Wallet.objects.get().balance) == "12.50"
