"""Any process killed with SIGKILL in the middle of orders: all become final, and the books add up."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event

import pytest

from devstack.valkey import answers
from stock.pages import PAGE_SECONDS
from tests.conftest import Stack, wait_until
from tests.shop import Customer, Shop

ORDERS = 200
CUSTOMERS = 8
PROCESSES = [
    "web",
    "relay",
    "consumer-analytics",
    "consumer-coupons",
    "consumer-dead-letters",
    "consumer-notifications",
    "consumer-orders",
    "consumer-payments",
    "consumer-stock",
    "celery-worker",
    "celery-beat",
    "postgres",
    "kafka",
    "valkey",
]


def test_every_process_of_the_stack_is_killed_below(stack: Stack):
    assert stack.processes() == sorted(PROCESSES)


@pytest.fixture(scope="module")
def customers(open_shop: Shop) -> list[Customer]:
    """Most with plenty of money, some whose wallets are soon empty."""
    return [open_shop.customer(money="1000000.00" if number % 4 else "30.00") for number in range(CUSTOMERS)]


@pytest.mark.parametrize("process", PROCESSES)
def test_all_orders_are_final_and_the_books_add_up_after_a_kill_of(
    shop: Shop, stack: Stack, customers: list[Customer], process: str
):
    under_way = Event()

    def buy(customer: Customer) -> list[str]:
        order_ids = []
        for number in range(ORDERS // CUSTOMERS):
            order_ids.append(customer.place(**{f"A{1 + number % 10:03}": 1 + number % 3}))
            if number % 10 == 9:
                answer = customer.call("POST", f"orders/{order_ids[-1]}/cancel/")
                # One whose customer has no money may be cancelled before.
                assert answer.status_code == 202 or answer.json()["code"] == "already_cancelled"
            if number == 5:
                under_way.set()
        return order_ids

    with ThreadPoolExecutor(CUSTOMERS) as pool:
        bought = [pool.submit(buy, customer) for customer in customers]
        assert under_way.wait(60)
        stack.kill(process)
        order_ids = [order_id for future in bought for order_id in future.result()]

    shop.wait_until_all_is_final(seconds=60)
    assert len(order_ids) == ORDERS


def test_workers_stop_in_time_while_kafka_hangs(shop: Shop, stack: Stack, customers: list[Customer]):
    groups = ("analytics", "coupons", "notifications", "orders", "payments", "stock")
    workers = ["relay", *(f"consumer-{group}" for group in groups)]
    customers[1].final(customers[1].place(A001=1))
    with stack.frozen("kafka"):
        customers[1].place(A002=1)
        asked = [pid for worker in workers if (pid := stack.pid(worker))]
        for pid in asked:
            os.kill(pid, signal.SIGTERM)
        # The promise is 10 s; after it another process takes the place of each.
        wait_until(lambda: not any(is_alive(pid) for pid in asked), seconds=10)
    assert len(asked) == len(workers)
    shop.wait_until_all_is_final(seconds=60)


@pytest.mark.parametrize("how", ["hangs", "is gone"])
def test_orders_go_on_without_redis_and_the_pages_of_products_are_right_again(
    shop: Shop, stack: Stack, customers: list[Customer], how: str
):
    before = shop.available("A008")
    with without_redis(stack, how):
        order_ids = [customers[1].place(A008=2) for _ in range(5)]
        for number, order_id in enumerate(order_ids):
            assert customers[1].final(order_id)["status"] == "COMPLETED", number
        wait_until(lambda: shop.available("A008") == before - 10, PAGE_SECONDS)
    # What Redis still had of this product is older than what happened.
    wait_until(lambda: shop.available("A008") == before - 10, PAGE_SECONDS)
    customers[1].final(customers[1].place(A008=1))
    wait_until(lambda: shop.available("A008") == before - 11, PAGE_SECONDS)


@contextmanager
def without_redis(stack: Stack, how: str) -> Iterator[None]:
    """Let Redis hang, or be gone, until the block ends."""
    if how == "hangs":
        with stack.frozen("valkey"):
            yield
        return
    # It is started again, and is killed again, until the block ends.
    over = Event()

    def keep_away() -> None:
        while not over.is_set():
            if pid := stack.pid("valkey"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            over.wait(0.05)

    with ThreadPoolExecutor(1) as pool:
        away = pool.submit(keep_away)
        try:
            yield
        finally:
            over.set()
            away.result()
    wait_until(lambda: answers(stack.settings["REDIS_URL"]))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
