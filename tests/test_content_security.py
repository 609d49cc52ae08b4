"""The pages in a real browser, under the policy that says what they may load and run."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

POLICY = "Content Security Policy"
PAGES = [
    "",
    "accounts/user/",
    "accounts/user/add/",
    "orders/order/",
    "orders/order/{order}/change/",
    "orders/order/{order}/cancel/",
    "stock/product/",
    "stock/product/add/",
    "stock/product/A001/change/",
    "stock/product/A001/receive/",
    "payments/wallet/",
    "payments/wallet/{user}/change/",
    "payments/wallet/{user}/deposit/",
    "analytics/sales/",
    "outbox/failedmessage/",
    "outbox/outboxevent/event/",
    "password_change/",
]


@pytest.fixture
def page(browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


@pytest.fixture
def complaints(page) -> list[str]:
    """What the browser writes to its console, of what it may not load or run, and of what fails when it runs."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text) if POLICY in message.text else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


def test_reads_and_tries_the_api_in_swagger_ui(page, complaints, stack):
    page.goto(f"{stack.address}/api/docs/")
    page.locator(".opblock-summary", has=page.locator("[data-path='/api/v1/products/']")).first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response .response-col_status").first).to_contain_text("200")
    assert complaints == []


def test_opens_the_pages_of_the_admin(page, complaints, stack, shop):
    customer = shop.customer(money="100.00")
    order, user = customer.place(A001=1), customer.call("GET", "users/me/").json()["id"]
    page.goto(f"{stack.address}/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("orderbox-demo")
    page.get_by_role("button", name="Log in").click()
    for path in PAGES:
        answer = page.goto(f"{stack.address}/admin/{path.format(order=order, user=user)}")
        assert answer is not None
        assert answer.status == 200, path
        page.wait_for_load_state("networkidle")
        assert complaints == [], path


def test_runs_no_script_that_stands_in_a_page(page, complaints, stack):
    page.goto(f"{stack.address}/api/docs/")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = true'}))"
    )
    assert page.evaluate("window.ran") is None
    assert any(POLICY in complaint for complaint in complaints)
