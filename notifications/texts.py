"""What notifications say, by kind and language. The names in braces are a notice's facts."""

from typing import NamedTuple

from notifications.models import Notification

Kind = Notification.Kind


class Text(NamedTuple):
    title: str
    body: str


TEXTS = {
    "en": {
        Kind.WELCOME: Text("Welcome, {username}", "Fill your wallet and place your first order."),
        Kind.ORDER_COMPLETED: Text("Your order is paid", "We took {total} {currency} from your wallet."),
        Kind.ORDER_CANCELLED: Text("Your order was cancelled", "{reason}"),
        Kind.PAYMENT_REFUNDED: Text("Your money is back", "{amount} {currency} are in your wallet again."),
    },
    "ko": {
        Kind.WELCOME: Text("{username}님, 환영합니다", "지갑을 충전하고 첫 주문을 해 보세요."),
        Kind.ORDER_COMPLETED: Text("주문이 결제되었습니다", "지갑에서 {total} {currency}가 결제되었습니다."),
        Kind.ORDER_CANCELLED: Text("주문이 취소되었습니다", "{reason}"),
        Kind.PAYMENT_REFUNDED: Text("환불되었습니다", "{amount} {currency}가 지갑으로 돌아왔습니다."),
    },
}

# Why an order was cancelled, by its cancel_reason.
REASONS = {
    "en": {
        "OUT_OF_STOCK": "There was not enough in stock.",
        "PAYMENT_FAILED": "There was not enough money in your wallet.",
        "CUSTOMER": "It was cancelled on request.",
        "TIMEOUT": "It could not be finished in time.",
    },
    "ko": {
        "OUT_OF_STOCK": "재고가 부족했습니다.",
        "PAYMENT_FAILED": "지갑의 잔액이 부족했습니다.",
        "CUSTOMER": "요청에 따라 취소되었습니다.",
        "TIMEOUT": "제시간에 처리하지 못했습니다.",
    },
}


def write(kind: Kind, language: str, facts: dict[str, str]) -> Text:
    """Return the text of a notification. Of facts, `reason` is an order's cancel_reason."""
    if "reason" in facts:
        facts = {**facts, "reason": REASONS[language][facts["reason"]]}
    text = TEXTS[language][kind]
    return Text(text.title.format(**facts), text.body.format(**facts))
