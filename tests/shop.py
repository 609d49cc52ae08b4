"""The API as a client uses it: patient with outages, knowing nothing of the code."""

import logging
import time
from typing import Any
from uuid import uuid4

import httpx

# Every look at an order would be a line.
logging.getLogger("httpx").setLevel(logging.WARNING)

FINAL = {"COMPLETED", "CANCELLED"}


class Customer:
    """A registered customer with a wallet."""

    def __init__(self, http: httpx.Client, *, username: str, password: str) -> None:
        self._http, self.username = http, username
        token = call(http, "POST", "auth/token/", json={"username": username, "password": password}).json()["token"]
        self._headers = {"Authorization": f"Token {token}"}

    def call(self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> httpx.Response:
        return call(self._http, method, path, headers={**self._headers, **(headers or {})}, **options)

    def deposit(self, amount: str) -> None:
        assert self.call("POST", "wallet/deposits/", json={"amount": amount}).status_code == 201

    def balance(self) -> str:
        return self.call("GET", "wallet/").json()["balance"]

    def place(self, **quantities: int) -> str:
        """Place an order and return its id."""
        items = [{"sku": sku, "quantity": quantity} for sku, quantity in quantities.items()]
        answer = self.call("POST", "orders/", json={"items": items})
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def order(self, order_id: str) -> dict[str, Any]:
        return self.call("GET", f"orders/{order_id}/").json()

    def final(self, order_id: str, seconds: float = 60) -> dict[str, Any]:
        """Return an order when it is final; fail when it is not within that time."""
        end = time.monotonic() + seconds
        while (order := self.order(order_id))["status"] not in FINAL:
            assert time.monotonic() < end, order
            time.sleep(0.05)
        return order

    def timeline(self, order_id: str) -> list[str]:
        return [step["event_type"] for step in self.call("GET", f"orders/{order_id}/timeline/").json()["steps"]]

    def wait_for_step(self, order_id: str, event_type: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while event_type not in self.timeline(order_id):
            assert time.monotonic() < end, self.timeline(order_id)
            time.sleep(0.05)

    def told(self) -> list[dict[str, Any]]:
        """Return what they were told in the app, the oldest first."""
        return self.call("GET", "notifications/?page_size=200").json()["results"][::-1]

    def open_orders(self) -> list[dict[str, Any]]:
        return [
            order
            for status in ("PENDING", "AWAITING_PAYMENT")
            for order in self.call("GET", f"orders/?status={status}&page_size=200").json()["results"]
        ]


class Shop:
    """The shop of the demo data."""

    def __init__(self, address: str) -> None:
        self._http = httpx.Client(base_url=f"{address}/api/v1/", timeout=30, trust_env=False)
        self._customers: list[Customer] = []

    def customer(self, *, money: str | None = None, language: str = "en") -> Customer:
        """Register a customer, with that much in the wallet."""
        username, password = f"c{uuid4().hex}", "a password of theirs"
        body = {
            "username": username,
            "email": f"{username}@example.com",
            "password": password,
            "language": language,
        }
        answer = call(self._http, "POST", "users/", json=body)
        # A repeat of one whose answer was lost is refused, since the first was taken.
        assert answer.status_code in (201, 400), answer.text
        customer = Customer(self._http, username=username, password=password)
        if money:
            customer.deposit(money)
        self._customers.append(customer)
        return customer

    def staff(self) -> Customer:
        return Customer(self._http, username="admin", password="orderbox-demo")

    def available(self, sku: str) -> int:
        return call(self._http, "GET", f"products/{sku}/").json()["available"]

    def wait_until_all_is_final(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while open_orders := [order for customer in self._customers for order in customer.open_orders()]:
            assert time.monotonic() < end, open_orders
            time.sleep(0.1)


def call(http: httpx.Client, method: str, path: str, *, seconds: float = 60, **options: Any) -> httpx.Response:
    """Call the API, again and again while the web or PostgreSQL is away."""
    end = time.monotonic() + seconds
    while True:
        try:
            answer = http.request(method, path, **options)
            if answer.status_code != 503:
                return answer
        except httpx.TransportError:
            pass
        assert time.monotonic() < end, f"{method} {path}: no answer within {seconds} s"
        time.sleep(0.2)
