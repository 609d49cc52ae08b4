"""What is in wallets and in their ledger changes here alone: each movement of a balance has its entry."""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from payments.models import Entry, Wallet


def move(*, wallet: Wallet, kind: Entry.Kind, amount: Decimal, order_id: UUID | None = None) -> Entry:
    """Add an amount to the balance of a locked wallet, and return its entry. Below zero it is taken.

    Nothing is written yet: `write` does that, of all entries of a transaction at once.
    """
    wallet.balance += amount
    return Entry(wallet=wallet, kind=kind, amount=amount, order_id=order_id)


def write(entries: Sequence[Entry]) -> None:
    """Write entries, and the balances that they moved."""
    moved = {entry.wallet_id: entry.wallet for entry in entries}
    Wallet.objects.bulk_update([moved[user_id] for user_id in sorted(moved)], ["balance"])
    Entry.objects.bulk_create(entries)
