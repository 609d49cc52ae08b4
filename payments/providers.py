"""What takes the money of payments and gives it back. settings.PAYMENT_PROVIDER names the class.

A provider is one class of one of two kinds. An inline one moves rows of this database, in the very transaction that
asks it. One that calls out is asked later, outside any transaction, about payments that are rows already
(payments/settling.py): a provider that is slow, or gone, keeps no consumer waiting.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from threading import RLock
from uuid import UUID

from django.utils.module_loading import import_string

from payments import ledger
from payments.models import Entry, Payment, Wallet


class Declined(Exception):
    """The provider takes nothing, now and for ever. `reason` is a code, which PaymentFailed tells.

    It is a text, and not empty, whatever the provider gave for it, be it nothing.
    """

    def __init__(self, reason: object = None) -> None:
        self.reason = str(reason or "declined")
        super().__init__(self.reason)


class InlineProvider(ABC):
    """Settles at once, in the open transaction."""

    @abstractmethod
    def capture(self, payments: Sequence[Payment]) -> dict[UUID, str]:
        """Take the payments' amounts, in the order given: of each all or nothing.

        Returns the reasons, by order, why it took nothing; all others are captured.
        """

    @abstractmethod
    def refund(self, payments: Sequence[Payment]) -> None:
        """Give back what was taken for the payments."""


class RemoteProvider(ABC):
    """Is asked about one payment at a time, by several threads at once, none of which has a transaction open.

    The same question may come again, after a crash or when its outcome is not known. The order's id is the key by
    which the provider must know it, for each method: it acts once, and answers as it did the first time. A call must
    end within CALL_SECONDS, in whichever way; it must not use the database.
    """

    @abstractmethod
    def capture(self, payment: Payment) -> None:
        """Take the payment's amount. Blocks.

        Raises:
            Declined: nothing was taken, and nothing will be.
            Exception: any other one means that nobody knows; the same is asked again later.
        """

    @abstractmethod
    def refund(self, payment: Payment) -> None:
        """Give back the payment's amount, which was captured. Blocks.

        Raises:
            Exception: it is asked again later.
        """


# For what a provider waits at most. Well below payments.services.LEASE_SECONDS.
CALL_SECONDS = 10

_loading = RLock()


def load(path: str) -> InlineProvider | RemoteProvider:
    """Return the provider whose class has this dotted path: one for the process, however many threads ask at once.

    Raises:
        ImportError: there is no such class.
    """
    with _loading:
        return _load(path)


@cache
def _load(path: str) -> InlineProvider | RemoteProvider:
    provider: InlineProvider | RemoteProvider = import_string(path)()
    return provider


class WalletProvider(InlineProvider):
    """Takes from the customers' wallets here."""

    def capture(self, payments: Sequence[Payment]) -> dict[UUID, str]:
        wallets = Wallet.objects.lock(payment.user_id for payment in payments)
        declined: dict[UUID, str] = {}
        entries = []
        for payment in payments:
            wallet = wallets.get(payment.user_id)
            if wallet and wallet.currency != payment.currency:
                declined[payment.order_id] = "currency_mismatch"
            elif not wallet or wallet.balance < payment.amount:
                declined[payment.order_id] = "insufficient_funds"
            else:
                entries.append(
                    ledger.move(
                        wallet=wallet, kind=Entry.Kind.CAPTURE, amount=-payment.amount, order_id=payment.order_id
                    )
                )
        ledger.write(entries)
        return declined

    def refund(self, payments: Sequence[Payment]) -> None:
        wallets = Wallet.objects.lock(payment.user_id for payment in payments)
        ledger.write(
            [
                ledger.move(
                    wallet=wallets[payment.user_id],
                    kind=Entry.Kind.REFUND,
                    amount=payment.captured,
                    order_id=payment.order_id,
                )
                for payment in payments
            ]
        )
