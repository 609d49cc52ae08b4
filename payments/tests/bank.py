"""A bank that takes its time: an HTTP server of the test's own, and the provider that asks it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread

import httpx

from payments.models import Payment
from payments.providers import CALL_SECONDS, Declined, RemoteProvider

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
def serving(bank: Bank) -> Iterator[str]:
    """Let a bank answer on a port of its own; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            _, what, order_id = self.path.split("/")
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = bank.answer(what, order_id, Decimal(body["amount"]))
            if answer is None:
                return
            status, content = answer
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                # Who asked was killed.
                return

    class Server(ThreadingHTTPServer):
        # Callers who may wait to be let in.
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        bank.answers.set()
        server.shutdown()
        thread.join()
        server.server_close()
