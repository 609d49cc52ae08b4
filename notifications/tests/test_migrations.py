"""What people were told before there were channels."""

import pytest
from uuid_utils.compat import uuid7

from notifications.models import Notification

BEFORE, AFTER = "0001_initial", "0002_channels"
# Kind, title and body as they were written, and what is read of them.
OLD = [
    ("WELCOME", "Welcome, carol", "Fill your wallet and place your first order.", {"username": "carol"}),
    ("WELCOME", "carol님, 환영합니다", "지갑을 충전하고 첫 주문을 해 보세요.", {"username": "carol"}),
    (
        "ORDER_COMPLETED",
        "Your order is paid",
        "We took 12.50 USD from your wallet.",
        {"total": "12.50", "currency": "USD"},
    ),
    (
        "ORDER_COMPLETED",
        "주문이 결제되었습니다",
        "지갑에서 12.50 KRW가 결제되었습니다.",
        {"total": "12.50", "currency": "KRW"},
    ),
    ("ORDER_CANCELLED", "Your order was cancelled", "There was not enough in stock.", {"reason": "OUT_OF_STOCK"}),
    # Of the first version.
    ("ORDER_CANCELLED", "Your order was cancelled", "As you wished.", {"reason": "CUSTOMER"}),
    ("ORDER_CANCELLED", "주문이 취소되었습니다", "요청하신 대로 취소했습니다.", {"reason": "CUSTOMER"}),
    # Of somebody who changed the words.
    ("WELCOME", "Hello", "There you are.", {"username": "Hello"}),
    ("ORDER_COMPLETED", "Done", "Thank you!", {"total": "Thank you!", "currency": ""}),
    ("ORDER_CANCELLED", "주문이 취소되었습니다", "제시간에 처리하지 못했습니다.", {"reason": "TIMEOUT"}),
    (
        "PAYMENT_REFUNDED",
        "Your money is back",
        "12.50 USD are in your wallet again.",
        {"amount": "12.50", "currency": "USD"},
    ),
    (
        "PAYMENT_REFUNDED",
        "환불되었습니다",
        "12.50 USD가 지갑으로 돌아왔습니다.",
        {"amount": "12.50", "currency": "USD"},
    ),
]


@pytest.mark.django_db(transaction=True)
def test_what_was_told_is_told_still(customer, api, migrate):
    old = migrate("notifications", BEFORE).get_model("notifications", "Notification")
    ids = [
        old.objects.create(user_id=customer.pk, kind=kind, title=title, body=body, event_id=uuid7()).pk
        for kind, title, body, _ in OLD
    ]
    created = dict(old.objects.values_list("pk", "created_at"))
    migrate("notifications", AFTER)

    rows = Notification.objects.in_bulk(ids)
    assert [rows[pk].context for pk in ids] == [context for *_, context in OLD]
    assert {(row.channel, row.status) for row in rows.values()} == {("IN_APP", "SENT")}
    assert {pk: row.sent_at for pk, row in rows.items()} == created
    assert len(api(customer).get("/api/v1/notifications/").json()["results"]) == len(OLD)
