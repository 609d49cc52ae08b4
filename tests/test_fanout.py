"""One event, many groups: each hears of it at its own pace, and people are told of it once."""

import json
import re
import signal
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.conftest import Stack, wait_until
from tests.shop import Customer, Shop

ORDERS = 40
# What a customer is told of an order that is paid.
TOLD_OF_ORDER = {"PAYMENT_SUCCEEDED", "ORDER_COMPLETED"}
# Of a line of the log: the notification, its title, and to whom it went.
MESSAGE = re.compile(
    r"a message for a channel that is not set up .*notification_id=(\S+) title='?(.*?)'? to=(\S+)$", re.M
)


def messages(stack: Stack, address: str) -> dict[str, str]:
    """Return the title of each message that was sent to an address, by its notification; fail if one was sent twice."""
    found = [(row_id, title) for row_id, title, to in MESSAGE.findall(stack.log("celery-worker")) if to == address]
    assert len(dict(found)) == len(found)
    return dict(found)


def mail(customer: Customer) -> str:
    return f"{customer.username}@example.com"


def titles(customer: Customer) -> list[str]:
    return [notification["title"] for notification in customer.told()]


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        (
            "en",
            {
                "Welcome, {name}",
                "Your post is published",
                "{friend} has published a post",
                "Payment received",
                "Your order is complete",
                "Your order was cancelled",
                "Your money is back",
            },
        ),
        (
            "ko",
            {
                "{name}님, 환영합니다",
                "글이 게시되었습니다",
                "{friend}님이 새 글을 올렸습니다",
                "결제가 확인되었습니다",
                "주문이 완료되었습니다",
                "주문이 취소되었습니다",
                "환불되었습니다",
            },
        ),
    ],
)
def test_registering_posting_and_ordering_is_told_by_email_chat_and_in_the_app(
    shop: Shop, stack: Stack, language: str, expected: set[str]
):
    friend, customer = shop.customer(), shop.customer(money="100.00", language=language)
    chat = str(abs(hash(customer.username)))
    customer.call("PATCH", "users/me/", json={"telegram_chat_id": chat})
    customer.call("POST", f"users/{friend.username}/follow/")
    for writer in (customer, friend):
        assert writer.call("POST", "posts/", json={"title": "Tea", "body": "Good."}).status_code == 201
    order_id = customer.place(A001=1)
    customer.final(order_id)
    customer.call("POST", f"orders/{order_id}/cancel/")

    expected = {title.format(name=customer.username, friend=friend.username) for title in expected}
    wait_until(lambda: set(titles(customer)) == expected)
    assert len(titles(customer)) == len(expected)
    wait_until(lambda: set(messages(stack, mail(customer)).values()) == expected)
    # When they were welcomed, they had no chat.
    wait_until(lambda: len(messages(stack, chat)) == len(expected) - 1)
    assert set(messages(stack, chat).values()) < expected
    about = {notification["kind"]: notification["subject_id"] for notification in customer.told()}
    assert about["ORDER_COMPLETED"] == about["PAYMENT_REFUNDED"] == order_id
    operators = stack.log("celery-worker")
    assert re.search(rf"facts='Order: {order_id}; .*Customer: {customer.username};.* to=operators", operators)


def test_a_group_that_hangs_holds_up_no_other_and_catches_up(shop: Shop, stack: Stack):
    customer = shop.customer(money="10000.00")
    wait_until(customer.told)
    with stack.frozen("consumer-notifications"):
        orders = [customer.place(A002=1) for _ in range(ORDERS)]
        for order_id in orders:
            assert customer.final(order_id)["status"] == "COMPLETED"
        stack.wait_until_the_books_add_up()
        assert {notification["kind"] for notification in customer.told()} == {"WELCOME"}

    expected = Counter({(kind, order_id): 1 for kind in TOLD_OF_ORDER for order_id in orders})

    def told() -> Counter[tuple[str, str]]:
        return Counter((n["kind"], n["subject_id"]) for n in customer.told() if n["kind"] != "WELCOME")

    wait_until(lambda: told() == expected)
    wait_until(lambda: len(messages(stack, mail(customer))) == 1 + len(expected))


def test_three_instances_share_the_partitions_and_take_over_those_of_one_that_was_killed(stack: Stack):
    def shares() -> list[int]:
        """Return how many partitions each member of the group has, as consumer_lag tells."""
        [group] = [
            group
            for group in json.loads(stack.manage("consumer_lag", "--json").stdout)["groups"]
            if group["group"] == "notifications"
        ]
        owners = [part["owner"] and part["owner"]["member_id"] for part in group["partitions"]]
        return list(Counter(owners).values()) if None not in owners else []

    def are_shared_by(members: int) -> bool:
        of_each = shares()
        return len(of_each) == members and len(set(of_each)) == 1

    with ExitStack() as running:
        others = [running.enter_context(stack.beside("run_consumer", "notifications")) for _ in range(2)]
        wait_until(lambda: are_shared_by(3))
        others[0].send_signal(signal.SIGKILL)
        wait_until(lambda: are_shared_by(2))
