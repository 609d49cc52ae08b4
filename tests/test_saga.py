"""An order from HTTP to its end, through every process of `make run`, on real engines."""

import re
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from tests.conftest import wait_until

README = Path(__file__).resolve().parent.parent / "README.md"


def test_an_order_is_completed_and_its_timeline_tells_how(shop):
    before = shop.available("A001")
    customer = shop.customer(money="1000.00")
    order_id = customer.place(A001=2, A002=1)

    order = customer.final(order_id)

    assert (order["status"], order["cancel_reason"]) == ("COMPLETED", None)
    assert customer.timeline(order_id) == [
        "order.created", "stock.reserved", "order.reserved", "payment.succeeded", "order.completed",
    ]  # fmt: skip
    assert float(customer.balance()) == pytest.approx(1000 - float(order["total"]))
    assert shop.available("A001") == before - 2


def test_an_order_beyond_the_stock_is_cancelled_whole(shop):
    before = shop.available("A001")
    customer = shop.customer(money="100000.00")
    order_id = customer.place(A001=1, RARE1=11)

    order = customer.final(order_id)

    assert (order["status"], order["cancel_reason"]) == ("CANCELLED", "OUT_OF_STOCK")
    assert customer.timeline(order_id)[:2] == ["order.created", "stock.rejected"]
    assert (shop.available("A001"), shop.available("RARE1")) == (before, 10)
    assert customer.balance() == "100000.00"


def test_an_empty_wallet_gives_the_stock_back(shop):
    before = shop.available("A003")
    customer = shop.customer()
    order_id = customer.place(A003=5)

    order = customer.final(order_id)

    assert (order["status"], order["cancel_reason"]) == ("CANCELLED", "PAYMENT_FAILED")
    customer.wait_for_step(order_id, "stock.released")
    assert shop.available("A003") == before
    assert customer.balance() == "0.00"


def test_a_cancel_after_payment_brings_money_and_stock_back(shop):
    before = shop.available("A004")
    customer = shop.customer(money="500.00")
    order_id = customer.place(A004=3)
    assert customer.final(order_id)["status"] == "COMPLETED"

    answer = customer.call("POST", f"orders/{order_id}/cancel/")

    assert answer.status_code == 202
    assert answer.json()["cancel_reason"] == "CUSTOMER"
    customer.wait_for_step(order_id, "payment.refunded")
    customer.wait_for_step(order_id, "stock.released")
    assert customer.balance() == "500.00"
    assert shop.available("A004") == before
    again = customer.call("POST", f"orders/{order_id}/cancel/")
    assert (again.status_code, again.json()["code"]) == (409, "already_cancelled")


def test_a_cancel_at_any_moment_leaves_money_and_stock_where_they_belong(shop):
    before = shop.available("A005")
    customer = shop.customer(money="5000.00")
    order_ids = []
    for _ in range(20):
        order_id = customer.place(A005=1)
        assert customer.call("POST", f"orders/{order_id}/cancel/").status_code == 202
        order_ids.append(order_id)

    for order_id in order_ids:
        assert customer.final(order_id)["cancel_reason"] == "CUSTOMER"
        # Released or declined by its tombstone, refunded if it was paid: the books tell, when the last has passed.
        customer.wait_for_step(order_id, "order.cancelled")
    last = customer.place(A006=1)
    assert customer.final(last)["status"] == "COMPLETED"
    price = float(customer.order(last)["total"])

    def settled() -> bool:
        return shop.available("A005") == before and float(customer.balance()) == pytest.approx(5000 - price)

    wait_until(settled)


def test_a_hundred_clients_at_once_buy_the_last_ten_units(shop):
    sku = f"LAST-{uuid4().hex[:8]}"
    staff = shop.staff()
    assert staff.call("POST", "products/", json={"sku": sku, "name": "The last", "price": "9.00"}).status_code == 201
    assert staff.call("POST", f"products/{sku}/receipts/", json={"quantity": 10}).status_code == 201
    with ThreadPoolExecutor(10) as pool:
        customers = list(pool.map(lambda _: shop.customer(money="1000.00"), range(10)))
    start = Barrier(100)

    def buy(customer):
        start.wait(60)
        return customer.place(**{sku: 1})

    with ThreadPoolExecutor(100) as pool:
        order_ids = list(pool.map(buy, customers * 10))

    orders = [customer.final(order_id) for customer, order_id in zip(customers * 10, order_ids, strict=True)]
    outcomes = Counter((order["status"], order["cancel_reason"]) for order in orders)
    assert outcomes == {("COMPLETED", None): 10, ("CANCELLED", "OUT_OF_STOCK"): 90}
    assert shop.available(sku) == 0
    assert sum(float(customer.balance()) for customer in customers) == pytest.approx(10_000 - 10 * 9)


def test_one_key_sent_fifty_times_at_once_makes_one_order(shop):
    customer = shop.customer(money="1000.00")
    body = {"items": [{"sku": "A007", "quantity": 1}]}
    start = Barrier(50)

    def buy(_):
        start.wait(60)
        while True:
            answer = customer.call("POST", "orders/", json=body, headers={"Idempotency-Key": "once"})
            if answer.status_code != 409:
                return answer
            assert answer.json()["code"] == "idempotency_in_flight"
            time.sleep(0.2)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(buy, range(50)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 49
    orders = customer.call("GET", "orders/").json()["results"]
    assert [order["id"] for order in orders] == [answers[0].json()["id"]]


def test_a_garbage_record_on_a_topic_stops_nobody(shop, stack):
    producer = Producer({"bootstrap.servers": stack.settings["KAFKA_BOOTSTRAP_SERVERS"]})
    for topic in ("order-events", "stock-events", "payment-events", "user-events"):
        for partition in range(6):
            producer.produce(topic, key=b"\xff", value=b"\x00garbage", partition=partition)
    assert producer.flush(20) == 0

    customer = shop.customer(money="100.00")
    assert customer.final(customer.place(A001=1))["status"] == "COMPLETED"


def test_the_readmes_first_order_works_as_it_stands(stack):
    block = re.search(r"## A first order.*?```sh\n(.*?)```", README.read_text(), re.DOTALL).group(1)

    script = block.replace("http://127.0.0.1:8000", stack.address)
    done = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "COMPLETED" in done.stdout
