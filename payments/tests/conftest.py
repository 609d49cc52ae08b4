"""A bank as payment provider."""

from collections.abc import Iterator
from typing import Any

import pytest

from payments.tests import bank as banking
from payments.tests.bank import Bank


@pytest.fixture
def bank(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bank]:
    """A bank that takes the payments of this test."""
    bank = Bank()
    with banking.open_for_business(bank) as address:
        monkeypatch.setenv(banking.VARIABLE, address)
        settings.PAYMENT_PROVIDER = banking.PATH
        yield bank
