"""What is said about a wrong setting before anything runs."""

import pytest
from django.core.checks import run_checks


def messages():
    return {message.id: message for message in run_checks() if message.id.startswith("payments.")}


def test_the_defaults_are_right():
    assert messages() == {}


@pytest.mark.parametrize("path", ["payments.providers.WalletProvider", "payments.tests.bank.BankProvider"])
def test_a_provider_of_either_kind_is_right(settings, path):
    settings.PAYMENT_PROVIDER = path
    assert messages() == {}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CURRENCY", "usd", "payments.E001"),
        ("CURRENCY", "DOLLAR", "payments.E001"),
        ("CURRENCY", "", "payments.E001"),
        ("PAYMENT_PROVIDER", "nowhere", "payments.E002"),
        ("PAYMENT_PROVIDER", "payments.providers.Nobody", "payments.E002"),
        ("PAYMENT_PROVIDER", "payments.models.Wallet", "payments.E003"),
        ("PAYMENT_PROVIDER", "payments.providers.load", "payments.E003"),
        ("PAYMENT_PROVIDER", "payments.providers.InlineProvider", "payments.E003"),
        ("PAYMENT_PROVIDER", "payments.providers.RemoteProvider", "payments.E003"),
    ],
)
def test_a_wrong_one_is_named_with_a_hint(settings, name, value, expected):
    setattr(settings, name, value)
    assert messages().keys() == {expected}
    assert name in messages()[expected].msg
    assert messages()[expected].hint
