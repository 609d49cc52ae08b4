"""A bank that takes its time: an HTTP server of the test's own, and the provider that asks it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from threading import Event, Lock

import httpx

from payments.models import Payment
from payments.providers import CALL_SECONDS, Declined, RemoteProvider
from tests.serving import serving

PATH = "payments.tests.bank.BankProvider"
# The provider asks whom this variable names, in processes of their own too.
VARIABLE = "TEST_BANK_URL"
# What the bank gives to nobody.
TOO_MUCH = Decimal("1000.00")


class BankProvider(RemoteProvider):
    """Asks the bank."""

    def __init__(self) -> None:
        self._http = httpx.Client(timeout=CALL_SECONDS, trust_env=False)

    def capture(self, payment: Payment) -> None:
        answer = self._ask("capture", payment)
        if answer.status_code == 402:
            raise Declined(answer.json()["reason"])
        answer.raise_for_status()

    def refund(self, payment: Payment) -> None:
        self._ask("refund", payment).raise_for_status()

    def _ask(self, what: str, payment: Payment) -> httpx.Response:
        return self._http.post(
            f"{os.environ[VARIABLE]}/{what}/{payment.order_id}",
            json={"amount": str(payment.amount), "currency": payment.currency},
        )


class Bank:
    """What the bank did, and how it behaves."""

    def __init__(self) -> None:
        # Each question that came, also one that comes again: ("capture", order id).
        self.asked: list[tuple[str, str]] = []
        # Each act of the bank.
        self.acts: list[tuple[str, str]] = []
        # Not set: it knows the question, and takes its time.
        self.answers = Event()
        self.answers.set()
        # What it says of what it declines. Banks differ.
        self.reason: object = "card_declined"
        # What happens to the next questions: "broken" does nothing, "lost" does it, and no answer arrives.
        self.troubles: list[str] = []
        self._lock = Lock()

    def answer(self, what: str, order_id: str, amount: Decimal) -> tuple[int, dict[str, object]] | None:
        """Act on a question, once, and return status and body of the answer. None: it is lost."""
        with self._lock:
            self.asked.append((what, order_id))
            trouble = self.troubles.pop(0) if self.troubles else None
        self.answers.wait(CALL_SECONDS)
        if trouble == "broken":
            return 500, {}
        if what == "capture" and amount >= TOO_MUCH:
            return 402, {"reason": self.reason}
        with self._lock:
            if (what, order_id) not in self.acts:
                self.acts.append((what, order_id))
        return None if trouble == "lost" else (200, {})


@contextmanager
def open_for_business(bank: Bank) -> Iterator[str]:
    """Let a bank answer on a port of its own; gives its address."""

    def answer(path: str, body: bytes) -> tuple[int, bytes] | None:
        _, what, order_id = path.split("/")
        answered = bank.answer(what, order_id, Decimal(json.loads(body)["amount"]))
        return answered and (answered[0], json.dumps(answered[1]).encode())

    with serving(answer) as address:
        try:
            yield address
        finally:
            bank.answers.set()
