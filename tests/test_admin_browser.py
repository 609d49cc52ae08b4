"""The admin as a person meets it: every process of `make run`, and a real browser."""

from collections.abc import Iterator

import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.conftest import wait_until

# Stock fails on orders of so many units, until that is mended.
TOO_MANY = 7
BREAK = f"""
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too many'; END $$;
    CREATE TRIGGER fail BEFORE INSERT ON stock_reservation
    FOR EACH ROW WHEN (NEW.quantity = {TOO_MANY}) EXECUTE FUNCTION fail();
"""
MEND = "DROP FUNCTION IF EXISTS fail CASCADE"
# As after the last automatic retry, so that the worker of dead letters is not quicker than the person.
GIVE_UP = "UPDATE failed_messages SET status = 'FAILED', next_retry_at = NULL WHERE key = %s AND status = 'PENDING'"
LETTERS = "SELECT id, status FROM failed_messages WHERE key = %s"
PARKED = "SELECT count(*) FROM outbox_parkedevent WHERE key = %s"
RESERVED = "SELECT quantity FROM stock_reservation WHERE order_id = %s"


class Database:
    """The stack's database: what is broken and mended in it, and what a test finds there."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)

    def execute(self, statement: str, *parameters: object) -> list[tuple]:
        cursor = self._connection.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self.execute(MEND)
        self._connection.close()


@pytest.fixture
def database(stack) -> Iterator[Database]:
    database = Database(stack.settings["DATABASE_URL"])
    yield database
    database.close()


@pytest.fixture
def admin(browser, stack) -> Iterator[Page]:
    """The list of failed messages, in the browser of the admin who has logged in."""
    page = browser.new_page()
    page.goto(f"{stack.address}/admin/outbox/failedmessage/?status=open")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("orderbox-demo")
    page.get_by_role("button", name="Log in").click()
    yield page
    page.close()


def fail_on(order_id: str, database: Database) -> None:
    """Wait until the order is a dead letter, and only that."""
    key = order_id.encode()
    wait_until(lambda: database.execute(LETTERS, key))
    database.execute(GIVE_UP, key)
    [(_, status)] = database.execute(LETTERS, key)
    assert status == "FAILED"


def open_letter(admin: Page, order_id: str) -> None:
    admin.reload()
    row = admin.get_by_role("row").filter(has_text=order_id)
    expect(row).to_contain_text("order.created")
    row.get_by_role("link").first.click()


def test_an_order_on_which_a_handler_fails_is_parked_alone_mended_and_retried(shop, stack, database, admin):
    database.execute(BREAK)
    before = shop.available("A007")
    customer = shop.customer(money="10000.00")
    order_id = customer.place(A007=TOO_MANY)
    fail_on(order_id, database)

    # It alone: the same customer's next order, for the same goods, goes through.
    assert customer.final(customer.place(A007=1))["status"] == "COMPLETED"
    assert customer.order(order_id)["status"] == "PENDING"

    open_letter(admin, order_id)
    admin.get_by_role("button", name="Dry run", exact=True).click()
    expect(admin.locator("#outcome")).to_contain_text("too many")
    database.execute(MEND)
    admin.get_by_role("button", name="Dry run", exact=True).click()
    expect(admin.locator("#outcome")).to_contain_text("Would be applied")
    expect(admin.locator("#outcome")).to_contain_text("stock.reserved")
    assert database.execute(RESERVED, order_id) == []

    admin.get_by_role("button", name="Retry", exact=True).click()
    expect(admin.get_by_text("Retried: applied.")).to_be_visible()
    expect(admin.locator(".field-status").first).to_contain_text("Processed")

    assert customer.final(order_id)["status"] == "COMPLETED"
    assert customer.timeline(order_id) == [
        "order.created", "stock.reserved", "order.reserved", "payment.succeeded", "order.completed",
    ]  # fmt: skip
    assert database.execute(RESERVED, order_id) == [(TOO_MANY,)]
    wait_until(lambda: shop.available("A007") == before - TOO_MANY - 1)
    admin.get_by_role("link", name="History").click()
    expect(admin.get_by_role("row").filter(has_text="Retried: applied.")).to_contain_text("admin")


def test_what_came_after_the_failure_waits_behind_it_and_is_applied_after_it(shop, stack, database, admin):
    database.execute(BREAK)
    before = shop.available("A008")
    customer = shop.customer(money="10000.00")
    order_id = customer.place(A008=TOO_MANY)
    fail_on(order_id, database)

    assert customer.call("POST", f"orders/{order_id}/cancel/").status_code == 202
    wait_until(lambda: database.execute(PARKED, order_id.encode()) == [(1,)])
    database.execute(MEND)
    open_letter(admin, order_id)
    expect(admin.locator("#parked")).to_contain_text("order.cancelled")
    admin.get_by_role("button", name="Retry", exact=True).click()

    expect(admin.get_by_text("Retried: applied, and 1 parked event after it.")).to_be_visible()
    assert database.execute(PARKED, order_id.encode()) == [(0,)]
    # Reserved first, and given back then: the other way round nothing would have been reserved.
    assert database.execute(RESERVED, order_id) == [(TOO_MANY,)]
    customer.wait_for_step(order_id, "stock.released")
    assert shop.available("A008") == before


def test_a_letter_is_discarded_with_a_reason(shop, stack, database, admin):
    database.execute(BREAK)
    customer = shop.customer()
    order_id = customer.place(A009=TOO_MANY)
    fail_on(order_id, database)

    open_letter(admin, order_id)
    admin.get_by_role("button", name="Discard").click()
    expect(admin.get_by_role("heading", name="Discard")).to_be_visible()
    assert database.execute(LETTERS, order_id.encode())[0][1] == "FAILED"
    admin.get_by_label("Reason").fill("ordered by mistake")
    admin.get_by_role("button", name="Discard").click()

    expect(admin.get_by_text("Discarded. Reason: ordered by mistake")).to_be_visible()
    assert database.execute(LETTERS, order_id.encode())[0][1] == "DISCARDED"
    assert customer.call("POST", f"orders/{order_id}/cancel/").status_code == 202


def test_an_order_is_cancelled_on_its_page_and_its_timeline_leads_to_each_event_and_back(shop, stack, admin):
    before = shop.available("A006")
    customer = shop.customer(money="10000.00")
    order_id = customer.place(A006=2)
    assert customer.final(order_id)["status"] == "COMPLETED"

    admin.goto(f"{stack.address}/admin/orders/order/?q={order_id}")
    admin.get_by_role("link", name=order_id).click()
    admin.get_by_role("link", name="Cancel this order").click()
    expect(admin.get_by_role("heading", name=order_id)).to_contain_text("completed")
    admin.get_by_role("button", name="Cancel this order").click()
    expect(admin.get_by_text("Cancelled the order.")).to_be_visible()
    expect(admin.get_by_role("link", name="Cancel this order")).to_have_count(0)

    customer.wait_for_step(order_id, "payment.refunded")
    customer.wait_for_step(order_id, "stock.released")
    assert customer.balance() == "10000.00"
    assert shop.available("A006") == before
    admin.reload()
    expect(admin.get_by_role("row").filter(has_text="REFUND").first).to_be_visible()
    admin.get_by_role("link", name="order.cancelled").click()
    expect(admin.get_by_role("row").filter(has_text="stock").filter(has_text="Applied")).to_be_visible()
    admin.get_by_role("link", name=f"Order {order_id}").click()
    expect(admin.get_by_role("heading", name=order_id)).to_be_visible()


def test_a_deposit_that_is_clicked_twice_is_made_once(shop, stack, admin):
    customer = shop.customer()
    user_id = customer.call("GET", "users/me/").json()["id"]

    admin.goto(f"{stack.address}/admin/payments/wallet/{user_id}/change/")
    admin.get_by_role("link", name="Deposit").click()
    admin.get_by_label("Amount").fill("12.50")
    admin.get_by_role("button", name="Deposit").dblclick()
    expect(admin.get_by_role("heading", name="12.50 USD")).to_be_visible()

    assert customer.balance() == "12.50"


def test_goods_are_received_on_the_page_of_a_product(shop, stack, admin):
    before = shop.available("A010")
    admin.goto(f"{stack.address}/admin/stock/product/A010/change/")
    admin.get_by_role("link", name="Goods received").click()
    admin.get_by_label("Quantity").fill("3")
    admin.get_by_role("button", name="Goods received").click()

    expect(admin.get_by_text("Received 3 units of A010.")).to_be_visible()
    expect(admin.get_by_role("row").filter(has_text="RECEIVED").first).to_contain_text("admin")
    assert shop.available("A010") == before + 3
