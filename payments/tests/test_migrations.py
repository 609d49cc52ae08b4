"""What payments were before there were other providers than the wallet."""

from decimal import Decimal

from uuid_utils.compat import uuid7

WALLET = "payments.providers.WalletProvider"


def test_what_there_was_is_of_the_wallet_but_for_the_mark_of_a_cancel(customer, migrate):
    old = migrate("payments", "0001_initial")
    old.get_model("payments", "Wallet").objects.create(user_id=customer.pk, currency="EUR")
    for status, text in {"SUCCEEDED": "3.00", "FAILED": "4.00", "REFUNDED": "5.00", "CANCELLED": "0.00"}.items():
        amount = Decimal(text)
        old.get_model("payments", "Payment").objects.create(
            order_id=uuid7(),
            user_id=customer.pk,
            status=status,
            amount=amount,
            captured=amount if status in ("SUCCEEDED", "REFUNDED") else 0,
            refunded=amount if status == "REFUNDED" else 0,
        )

    new = migrate("payments", "0002_providers_and_triggers")
    payments = new.get_model("payments", "Payment").objects
    assert set(payments.values_list("status", "currency", "provider")) == {
        ("SUCCEEDED", "EUR", WALLET),
        ("FAILED", "EUR", WALLET),
        ("REFUNDED", "EUR", WALLET),
        ("CANCELLED", "EUR", ""),
    }
