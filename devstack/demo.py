"""The demo order: what a user would do over HTTP, and what they can open then."""

import asyncio
import sys
import time
import uuid
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from devstack import StackError

_PASSWORD = "orderbox-demo"
_LIMIT_SECONDS = 30.0
# Into a file or a pipe, the table is as wide as its ids need.
_console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)


async def place_order(address: str) -> None:
    """Let alice buy one A001, and print how it went; raises StackError when it is not COMPLETED within 30 s."""
    async with httpx.AsyncClient(base_url=f"{address}/api/v1/", timeout=10.0, trust_env=False) as client:
        login = await _call(client, "POST", "auth/token/", {"username": "alice", "password": _PASSWORD})
        client.headers["Authorization"] = f"Token {login['token']}"
        product = await _call(client, "GET", "products/A001/")
        await _call(client, "POST", "wallet/deposits/", {"amount": product["price"]})
        order = await _call(client, "POST", "orders/", {"items": [{"sku": "A001", "quantity": 1}]})
        await _completed(client, order["id"])
        timeline = await _call(client, "GET", f"orders/{order['id']}/timeline/")
        await _call(client, "DELETE", "auth/token/")
    _show_timeline(order, timeline["steps"])


def show_addresses(address: str) -> None:
    """Print what there is to open, and who may log in."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("Web API", f"{address}/api/docs/")
    table.add_row("Admin", f"{address}/admin/")
    table.add_row("Products", f"{address}/api/v1/products/")
    table.add_row("Users", f"alice, bob, admin (staff), each with the password {_PASSWORD}")
    _console.print()
    _console.print(table)
    _console.print("Serving until Ctrl-C.")


async def _call(client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Make one call of the API and return its answer; raises StackError on anything but a 2xx."""
    headers = {"Idempotency-Key": str(uuid.uuid4())} if method == "POST" and path != "auth/token/" else {}
    try:
        answer = await client.request(method, path, json=body, headers=headers)
    except httpx.HTTPError as error:
        raise StackError(f"the demo order failed: {method} {path}: {error!r}") from error
    if not answer.is_success:
        raise StackError(f"the demo order failed: {method} {path} answered {answer.status_code}: {answer.text[:300]}")
    return answer.json() if answer.content else None


async def _completed(client: httpx.AsyncClient, order_id: str) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while (order := await _call(client, "GET", f"orders/{order_id}/"))["status"] != "COMPLETED":
        if order["status"] == "CANCELLED" or time.monotonic() > deadline:
            reason = f", {order['cancel_reason']}" if order["cancel_reason"] else ""
            raise StackError(f"the demo order failed: {order_id} is {order['status']}{reason} and not COMPLETED")
        await asyncio.sleep(0.1)


def _show_timeline(order: dict[str, Any], steps: list[dict[str, Any]]) -> None:
    table = Table(title=f"Order {order['id']}: COMPLETED", title_justify="left")
    for column in ("at", "event", "event id"):
        table.add_column(column)
    for step in steps:
        table.add_row(step["at"], step["event_type"], step["event_id"])
    _console.print()
    _console.print(table)
