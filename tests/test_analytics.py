"""Analytics beside the shop that it tells of: every process of `make run`, a rebuild under load, and a real browser."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.conftest import wait_until

ORDERS, CUSTOMERS = 120, 4
# After so long the page has asked again.
NEXT_ASKED_MS = 5_000
# What analytics has, over the shards; and the same out of the tables of orders and payments, and nothing else.
COUNTED = {
    "sales": """
        SELECT hour, sum(orders), sum(units), sum(revenue), sum(refunds)
        FROM analytics_sales GROUP BY hour ORDER BY hour
    """,
    "funnel": """
        SELECT hour, sum(created), sum(reserved), sum(completed), sum(cancelled_out_of_stock),
               sum(cancelled_payment_failed), sum(cancelled_customer), sum(cancelled_timeout),
               sum(created_to_reserved_us), sum(created_to_completed_us), sum(created_to_cancelled_us)
        FROM analytics_funnel GROUP BY hour ORDER BY hour
    """,
    "products": "SELECT hour, sku, sum(units), sum(revenue) FROM analytics_productsales GROUP BY 1, 2 ORDER BY 1, 2",
    "activity": """
        SELECT hour, event_type, sum(count) FROM analytics_activity WHERE event_type <> 'user.created'
        GROUP BY 1, 2 ORDER BY 1, 2
    """,
}
STEPS = """
    WITH step AS (
        SELECT order_id, min(at) FILTER (WHERE event_type = 'order.created') AS created_at,
               min(at) FILTER (WHERE event_type = 'order.reserved') AS reserved_at,
               min(at) FILTER (WHERE event_type = 'order.completed') AS completed_at,
               min(at) FILTER (WHERE event_type = 'order.cancelled') AS cancelled_at,
               min(at) FILTER (WHERE event_type = 'payment.refunded') AS refunded_at
        FROM orders_step GROUP BY order_id
    )
"""
SHOP = {
    "sales": f"""
        {STEPS}, sold AS (
            SELECT date_trunc('hour', step.completed_at) AS hour, 1 AS orders, total AS revenue, 0 AS refunds,
                   (SELECT sum(quantity) FROM orders_line WHERE order_id = step.order_id) AS units
            FROM step JOIN orders_order ON id = order_id WHERE step.completed_at IS NOT NULL
        ), refunded AS (
            SELECT date_trunc('hour', refunded_at), 0, 0, amount, 0
            FROM step JOIN payments_payment USING (order_id)
            WHERE completed_at IS NOT NULL AND refunded_at IS NOT NULL
        )
        SELECT hour, sum(orders), sum(units), sum(revenue), sum(refunds)
        FROM (SELECT * FROM sold UNION ALL SELECT * FROM refunded) AS both_of_them GROUP BY hour ORDER BY hour
    """,
    "funnel": f"""
        {STEPS}
        SELECT date_trunc('hour', step.created_at), count(*), count(reserved_at), count(step.completed_at),
               count(*) FILTER (WHERE cancel_reason = 'OUT_OF_STOCK'),
               count(*) FILTER (WHERE cancel_reason = 'PAYMENT_FAILED'),
               count(*) FILTER (WHERE cancel_reason = 'CUSTOMER'), count(*) FILTER (WHERE cancel_reason = 'TIMEOUT'),
               coalesce(sum(extract(epoch FROM reserved_at - step.created_at) * 1000000)::bigint, 0),
               coalesce(sum(extract(epoch FROM step.completed_at - step.created_at) * 1000000)::bigint, 0),
               coalesce(sum(extract(epoch FROM cancelled_at - step.created_at) * 1000000)::bigint, 0)
        FROM step JOIN orders_order ON id = order_id GROUP BY 1 ORDER BY 1
    """,
    "products": f"""
        {STEPS}
        SELECT date_trunc('hour', completed_at), sku, sum(quantity), sum(quantity * unit_price)
        FROM step JOIN orders_line USING (order_id) WHERE completed_at IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2
    """,
    "activity": "SELECT date_trunc('hour', at), event_type, count(*) FROM orders_step GROUP BY 1, 2 ORDER BY 1, 2",
}


class Books:
    """The numbers of the stack's database."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement).fetchall()

    def counted(self) -> dict[str, Any]:
        """Return what analytics has."""
        return {name: self.ask(statement) for name, statement in COUNTED.items()}

    def of_the_shop(self) -> dict[str, Any]:
        """Return what it should have."""
        return {name: self.ask(statement) for name, statement in SHOP.items()}

    def wait_until_all_is_counted(self) -> None:
        wait_until(lambda: self.counted() == self.of_the_shop())

    def spoil(self) -> None:
        """Add to each sum what never happened."""
        for table, counter in {
            "sales": "orders",
            "funnel": "created",
            "productsales": "units",
            "activity": "count",
        }.items():
            self._connection.execute(f"UPDATE analytics_{table} SET {counter} = {counter} + 1000000")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def books(stack) -> Iterator[Books]:
    books = Books(stack.settings["DATABASE_URL"])
    yield books
    books.close()


@pytest.fixture
def charts(browser, stack) -> Iterator[Page]:
    """The page of charts, in the browser of the admin who has logged in."""
    page = browser.new_page()
    # So that no test waits for the page's own time.
    page.clock.install()
    page.goto(f"{stack.address}/admin/analytics/sales/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("orderbox-demo")
    page.get_by_role("button", name="Log in").click()
    yield page
    page.close()


def test_a_rebuild_while_orders_go_on_comes_to_what_the_shop_has(shop, stack, books):
    customers = [shop.customer(money="1000000.00" if number else "40.00") for number in range(CUSTOMERS)]
    customers[1].final(customers[1].place(A001=1))
    books.wait_until_all_is_counted()
    half_way, rebuilt_by_now = Event(), Event()

    done: list[str] = []

    def buy(number: int) -> None:
        customer = customers[number % CUSTOMERS]
        order_id = customer.place(**{f"A{1 + number % 9:03}": 1 + number % 3})
        if number % 6 == 0:
            customer.call("POST", f"orders/{order_id}/cancel/")
        elif number % 6 == 1:
            customer.final(order_id)
            customer.call("POST", f"orders/{order_id}/cancel/")
        if number == ORDERS // 2:
            half_way.set()
        if number >= ORDERS - CUSTOMERS:
            # The last ones wait for the rebuild.
            assert rebuilt_by_now.wait(60)
            customer.place(A001=1)
        done.append(order_id)

    # What a rebuild does away with.
    books.spoil()
    with ThreadPoolExecutor(CUSTOMERS) as pool:
        bought = pool.map(buy, range(ORDERS))
        assert half_way.wait(60)
        rebuilt = stack.manage("replay_events", "analytics", "--rebuild")
        cleared_at = len(done)
        rebuilt_by_now.set()
        list(bought)
    # They went on all the while.
    assert ORDERS // 2 <= cleared_at < len(done)
    assert rebuilt.returncode == 0, rebuilt.stderr

    shop.wait_until_all_is_final()
    books.wait_until_all_is_counted()
    # Nothing comes after that: neither once more, nor late.
    stack.wait_until_the_books_add_up()
    assert books.counted() == books.of_the_shop()


def test_the_api_answers_what_the_shop_has(shop, books):
    books.wait_until_all_is_counted()
    days = shop.staff().call("GET", "analytics/sales/").json()["results"]
    assert sum(day["orders"] for day in days) == sum(orders for _, orders, *_ in books.of_the_shop()["sales"])


def test_the_charts_show_a_new_order_without_a_reload(shop, books, charts):
    books.wait_until_all_is_counted()
    expect(charts.locator("#updated")).to_contain_text("Updated at")
    charts.evaluate("window.isTheSamePage = true")
    orders = int(charts.locator("#total-orders").inner_text().replace(",", ""))

    customer = shop.customer(money="10000.00")
    assert customer.final(customer.place(A005=2))["status"] == "COMPLETED"

    books.wait_until_all_is_counted()
    charts.clock.fast_forward(NEXT_ASKED_MS)
    expect(charts.locator("#total-orders")).to_have_text(f"{orders + 1:,}", timeout=20_000)
    assert charts.evaluate("window.isTheSamePage")
    charts.locator("#products summary").click()
    expect(charts.locator("#products tbody tr").filter(has_text="A005")).to_be_visible()
    assert charts.locator("#money canvas").evaluate("canvas => canvas.getContext('2d') && canvas.width > 0")


def test_the_charts_say_so_when_they_cannot_be_read_and_follow_again(shop, charts):
    expect(charts.locator("#updated")).to_contain_text("Updated at")
    expect(charts.locator("#trouble")).to_be_hidden()
    charts.route("**/figures/**", lambda route: route.abort())
    charts.clock.fast_forward(NEXT_ASKED_MS)
    expect(charts.locator("#trouble")).to_contain_text("cannot be read")
    charts.unroute("**/figures/**")
    charts.clock.fast_forward(NEXT_ASKED_MS)
    expect(charts.locator("#trouble")).to_be_hidden()
    charts.context.clear_cookies()
    charts.clock.fast_forward(NEXT_ASKED_MS)
    expect(charts.locator("#trouble")).to_contain_text("no longer logged in")


def test_another_range_is_drawn_without_a_reload(shop, charts):
    expect(charts.locator("#money tbody tr")).to_have_count(24)
    charts.evaluate("window.isTheSamePage = true")
    charts.get_by_role("link", name="90 days").click()
    expect(charts.locator("#money tbody tr")).to_have_count(90)
    assert charts.evaluate("window.isTheSamePage")
    assert charts.url.endswith("?range=90d")
    expect(charts.get_by_role("link", name="products", exact=True)).to_have_attribute(
        "href", re.compile(r"/products\.csv\?range=90d$")
    )
