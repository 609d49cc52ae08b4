"""Coupons on the whole stack: all ask twice at once, by both queues, while the processors are killed."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from uuid import uuid4

import httpx
import psycopg
import pytest

from devstack import ports
from tests.conftest import CHECKOUT, Stack, serves, wait_until

USERS, QUANTITY, CONNECTIONS, KILLS = 300, 60, 32, 3
# With tokens, but without passwords: to hash them would take minutes.
ADD_USERS = f"""
import json
from uuid import uuid4
from knox.models import AuthToken
from accounts.models import User
names = [uuid4().hex for _ in range({USERS})]
users = User.objects.bulk_create(User(username=name, email=name + "@example.com", password="!") for name in names)
print(json.dumps([AuthToken.objects.create(user=user)[1] for user in users]))
"""
ANSWERS = """
    SELECT status, count(*), count(DISTINCT user_id) FROM coupons_request WHERE code = %s GROUP BY status
"""
WAITING = "SELECT count(*) FROM coupons_request WHERE code = %s AND status = 'QUEUED'"


@contextmanager
def web_with(stack: Stack, queue: str) -> Iterator[str]:
    """Run a web process that puts requests into a queue, whatever the stack's does; gives its address."""
    port = ports.choose(taken=set())
    web = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}", "--threads", "8"],
        cwd=CHECKOUT,
        env={**stack.environment, "COUPON_QUEUE": queue},
    )
    try:
        wait_until(lambda: serves(f"http://127.0.0.1:{port}"))
        yield f"http://127.0.0.1:{port}"
    finally:
        web.terminate()
        web.wait(15)


@pytest.fixture
def tokens(stack: Stack) -> list[str]:
    added = stack.manage("shell", "-v", "0", "-c", ADD_USERS)
    assert added.returncode == 0, added.stderr
    return json.loads(added.stdout)


@pytest.mark.parametrize("queues", [["kafka"], ["redis"], ["kafka", "redis"]], ids=["kafka", "redis", "switched"])
def test_exactly_as_many_get_one_as_there_are_whoever_is_killed(shop, stack, tokens, queues):
    code = f"C{uuid4().hex[:8].upper()}"
    coupon = {"code": code, "name": "First come", "quantity": QUANTITY, "percent_off": 10}
    assert shop.staff().call("POST", "coupons/", json=coupon).status_code == 201

    with ExitStack() as running:
        addresses = [running.enter_context(web_with(stack, queue)) for queue in queues]
        http = running.enter_context(httpx.Client(timeout=60, trust_env=False))
        # With the stack's own there are three.
        others = [running.enter_context(stack.beside("run_consumer", "coupons")) for _ in range(2)]

        def ask(place: int) -> int:
            # Each user twice, one request right after the other. The setting is switched in the middle.
            address = addresses[place * len(addresses) // (2 * USERS)]
            headers = {"Authorization": f"Token {tokens[place // 2]}"}
            return http.post(f"{address}/api/v1/coupons/{code}/issue/", headers=headers, json={}).status_code

        def kill() -> None:
            for _ in range(KILLS - 1):
                stack.kill("consumer-coupons")
            others[0].kill()

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            killing = pool.submit(kill)
            answered = Counter(pool.map(ask, range(2 * USERS)))
            killing.result()
        assert answered.keys() <= {202, 409}

        with psycopg.connect(stack.settings["DATABASE_URL"], autocommit=True) as db:
            end = time.monotonic() + 60
            while (waiting := db.execute(WAITING, [code]).fetchone()) != (0,):
                assert time.monotonic() < end, waiting
                time.sleep(0.05)
            found = {status: (number, users) for status, number, users in db.execute(ANSWERS, [code]).fetchall()}

    assert found["SUCCESS"] == (QUANTITY, QUANTITY)
    assert found.keys() <= {"SUCCESS", "OUT_OF_STOCK", "DUPLICATE_REQUEST"}
    assert sum(number for number, _ in found.values()) == answered[202]
    assert shop.staff().call("GET", f"coupons/{code}/").json()["issued"] == QUANTITY
