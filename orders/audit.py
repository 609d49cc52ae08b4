"""Whether stock, money, coupons and orders agree with each other. Run with: manage.py audit

Each check is one query over whole tables that returns what is off as (subject, expected, actual, since). `since` is
null where the numbers belong to one app and change in one transaction, so that nothing excuses a difference. Where
events are still to be applied, it is when the latest change came about: what is younger than the grace is in flight.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction

from outbox import conf

# What spans apps may lag this long behind an order's last change of status.
GRACE_SECONDS = 60

CHECKS = {
    # ── Stock, per SKU ───────────────────────────────────────────────────────────────────────────────────────────
    "on hand = received - sold + returned": """
        SELECT product.sku, COALESCE(movement.units, 0), level.on_hand, NULL
        FROM stock_product product
        LEFT JOIN stock_level level ON level.product_id = product.sku
        LEFT JOIN (
            SELECT product_id, SUM(CASE kind WHEN 'SOLD' THEN -quantity ELSE quantity END) AS units
            FROM stock_movement
            WHERE kind IN ('RECEIVED', 'SOLD', 'RETURNED')
            GROUP BY product_id
        ) movement ON movement.product_id = product.sku
        WHERE level.on_hand IS DISTINCT FROM COALESCE(movement.units, 0)
    """,
    "reserved = open reservations": """
        SELECT product.sku, COALESCE(reservation.held, 0), level.reserved, NULL
        FROM stock_product product
        LEFT JOIN stock_level level ON level.product_id = product.sku
        LEFT JOIN (
            SELECT product_id, SUM(quantity) AS held FROM stock_reservation WHERE status = 'HELD' GROUP BY product_id
        ) reservation ON reservation.product_id = product.sku
        WHERE level.reserved IS DISTINCT FROM COALESCE(reservation.held, 0)
    """,
    "stock is never below zero": """
        SELECT product_id, 0, LEAST(on_hand, reserved, on_hand - reserved), NULL
        FROM stock_level
        WHERE LEAST(on_hand, reserved, on_hand - reserved) < 0
    """,
    # A line was reserved, and then perhaps released, or sold and perhaps returned.
    "a reservation's movements tell what became of it": """
        SELECT
            COALESCE(reservation.order_id, movement.order_id) || ' '
                || COALESCE(reservation.product_id, movement.product_id),
            COALESCE(reservation.status || ' ' || reservation.quantity, 'no movements'),
            COALESCE(movement.held || ' held, ' || movement.sold || ' sold', 'no movements'),
            NULL
        FROM stock_reservation reservation
        FULL JOIN (
            SELECT
                order_id,
                product_id,
                SUM(CASE kind WHEN 'RESERVED' THEN quantity WHEN 'RETURNED' THEN 0 ELSE -quantity END) AS held,
                SUM(CASE kind WHEN 'SOLD' THEN quantity WHEN 'RETURNED' THEN -quantity ELSE 0 END) AS sold
            FROM stock_movement
            WHERE order_id IS NOT NULL
            GROUP BY order_id, product_id
        ) movement ON movement.order_id = reservation.order_id AND movement.product_id = reservation.product_id
        WHERE movement.held IS DISTINCT FROM CASE reservation.status WHEN 'HELD' THEN reservation.quantity ELSE 0 END
            OR movement.sold IS DISTINCT FROM CASE reservation.status WHEN 'SOLD' THEN reservation.quantity ELSE 0 END
            OR reservation.order_id IS NULL
    """,
    # ── Money, per wallet ────────────────────────────────────────────────────────────────────────────────────────
    "balance = sum of entries": """
        SELECT wallet.user_id, COALESCE(entry.amount, 0), wallet.balance, NULL
        FROM payments_wallet wallet
        LEFT JOIN (
            SELECT wallet_id, SUM(amount) AS amount FROM payments_entry GROUP BY wallet_id
        ) entry ON entry.wallet_id = wallet.user_id
        WHERE wallet.balance <> COALESCE(entry.amount, 0)
    """,
    "a balance is never below zero": """
        SELECT user_id, 0, balance, NULL FROM payments_wallet WHERE balance < 0
    """,
    # A provider that is not the wallet keeps its own books; one that builds on it may have entries.
    "captured - refunded = the order's entries if its wallet pays": """
        SELECT
            COALESCE(payment.order_id, entry.order_id),
            COALESCE(payment.captured - payment.refunded, 0),
            COALESCE(-entry.amount, 0),
            NULL
        FROM payments_payment payment
        FULL JOIN (
            SELECT order_id, SUM(amount) AS amount FROM payments_entry WHERE order_id IS NOT NULL GROUP BY order_id
        ) entry ON entry.order_id = payment.order_id
        WHERE COALESCE(payment.captured - payment.refunded, 0) <> COALESCE(-entry.amount, 0)
            AND (entry.order_id IS NOT NULL OR payment.provider = 'payments.providers.WalletProvider')
    """,
    # ── Orders, across the apps ──────────────────────────────────────────────────────────────────────────────────
    "captured - refunded = the order's total if completed, 0 if cancelled": """
        SELECT
            "order".id,
            expected.amount,
            COALESCE(payment.captured - payment.refunded, 0),
            GREATEST("order".updated_at, payment.updated_at)
        FROM orders_order "order"
        CROSS JOIN LATERAL (
            SELECT CASE "order".status WHEN 'COMPLETED' THEN "order".total ELSE 0 END AS amount
        ) expected
        LEFT JOIN payments_payment payment ON payment.order_id = "order".id
        WHERE "order".status IN ('COMPLETED', 'CANCELLED')
            AND COALESCE(payment.captured - payment.refunded, 0) <> expected.amount
    """,
    # But for the mark of one that was cancelled before it asked, whose amount is 0.
    "a payment is of its order's total, currency and customer": """
        SELECT
            "order".id,
            "order".total || ' ' || "order".currency || ' of ' || "order".customer_id,
            payment.amount || ' ' || payment.currency || ' of ' || payment.user_id,
            NULL
        FROM payments_payment payment
        JOIN orders_order "order" ON "order".id = payment.order_id
        WHERE ("order".total, "order".currency, "order".customer_id)
            <> (payment.amount, payment.currency, payment.user_id)
            AND (payment.status <> 'CANCELLED' OR payment.amount <> 0)
    """,
    "stock is taken for every line of an order, or for none": """
        SELECT
            order_id || ' ' || sku,
            COALESCE(line.quantity, 0),
            COALESCE(reservation.quantity, 0),
            NULL
        FROM orders_line line
        FULL JOIN (
            SELECT order_id, product_id AS sku, quantity FROM stock_reservation
        ) reservation USING (order_id, sku)
        WHERE line.quantity IS DISTINCT FROM reservation.quantity
            AND order_id IN (SELECT order_id FROM stock_reservation)
            AND order_id IN (SELECT id FROM orders_order)
    """,
    "sold = the order's lines if completed, nothing taken if cancelled": """
        SELECT
            "order".id || ' ' || sku,
            COALESCE(line.quantity, 0),
            CASE WHEN "order".status = 'COMPLETED' AND taken.status = 'HELD' THEN 0
                ELSE COALESCE(taken.quantity, 0) END,
            GREATEST("order".updated_at, taken.updated_at)
        FROM (
            SELECT line.order_id, line.sku, line.quantity
            FROM orders_line line
            JOIN orders_order completed ON completed.id = line.order_id AND completed.status = 'COMPLETED'
        ) line
        FULL JOIN (
            SELECT order_id, product_id AS sku, quantity, status, updated_at
            FROM stock_reservation
            WHERE status IN ('HELD', 'SOLD')
        ) taken USING (order_id, sku)
        JOIN orders_order "order" ON "order".id = order_id
        WHERE "order".status IN ('COMPLETED', 'CANCELLED')
            AND (line.quantity IS DISTINCT FROM taken.quantity
                OR "order".status = 'COMPLETED' AND taken.status = 'HELD')
    """,
    "money and stock are taken for orders that there are": """
        SELECT taken.order_id, 0, COUNT(*), NULL
        FROM (
            SELECT order_id FROM payments_payment WHERE captured > 0
            UNION ALL
            SELECT order_id FROM stock_reservation
        ) taken
        LEFT JOIN orders_order "order" ON "order".id = taken.order_id
        WHERE "order".id IS NULL
        GROUP BY taken.order_id
    """,
    "an order's lines come to its total and discount": """
        SELECT "order".id, line.amount, "order".total + "order".discount, NULL
        FROM orders_order "order"
        JOIN (
            SELECT order_id, SUM(quantity * unit_price) AS amount FROM orders_line GROUP BY order_id
        ) line ON line.order_id = "order".id
        WHERE line.amount <> "order".total + "order".discount
    """,
    # Celery cancels it, a few seconds later where all is well.
    "an order past its deadline is final": """
        SELECT id, 'COMPLETED or CANCELLED', status, deadline_at
        FROM orders_order
        WHERE status NOT IN ('COMPLETED', 'CANCELLED') AND deadline_at < %(now)s
    """,
    # ── Coupons ──────────────────────────────────────────────────────────────────────────────────────────────────
    "a coupon's count = those that are issued": """
        SELECT coupon.code, COALESCE(owned.count, 0), coupon.issued, NULL
        FROM coupons_coupon coupon
        LEFT JOIN (
            SELECT coupon_id, COUNT(*) AS count FROM coupons_issuedcoupon GROUP BY coupon_id
        ) owned ON owned.coupon_id = coupon.code
        WHERE coupon.issued <> COALESCE(owned.count, 0)
    """,
    "no more of a coupon are issued than there are": """
        SELECT coupon.code, coupon.quantity || ' or fewer', COUNT(*), NULL
        FROM coupons_issuedcoupon issued
        JOIN coupons_coupon coupon ON coupon.code = issued.coupon_id
        GROUP BY coupon.code
        HAVING COUNT(*) > coupon.quantity
    """,
    "a user has a coupon once": """
        SELECT coupon_id || ' of ' || user_id, 1, COUNT(*), NULL
        FROM coupons_issuedcoupon
        GROUP BY coupon_id, user_id
        HAVING COUNT(*) > 1
    """,
    "a request succeeded if it has its coupon": """
        SELECT
            COALESCE(request.id, issued.request_id),
            COALESCE(request.code || ' of ' || request.user_id, 'none'),
            COALESCE(issued.coupon_id || ' of ' || issued.user_id, 'none'),
            NULL
        FROM (SELECT id, code, user_id FROM coupons_request WHERE status = 'SUCCESS') request
        FULL JOIN coupons_issuedcoupon issued ON issued.request_id = request.id
        WHERE (request.code, request.user_id) IS DISTINCT FROM (issued.coupon_id, issued.user_id)
    """,
    # Where the queue is long, or nobody reads it, later.
    "a request for a coupon is answered": """
        SELECT id, 'answered', status, created_at FROM coupons_request WHERE status = 'QUEUED'
    """,
    "one coupon is spent on an order": """
        SELECT spent_on, 1, COUNT(*), NULL
        FROM coupons_issuedcoupon
        WHERE spent_on IS NOT NULL
        GROUP BY spent_on
        HAVING COUNT(*) > 1
    """,
    "a coupon is spent on its user's order": """
        SELECT
            issued.coupon_id || ' of ' || issued.user_id,
            'on an order of theirs',
            COALESCE(issued.spent_on || ' of ' || "order".customer_id, issued.spent_on || ', which there is not'),
            NULL
        FROM coupons_issuedcoupon issued
        LEFT JOIN orders_order "order" ON "order".id = issued.spent_on
        WHERE issued.spent_on IS NOT NULL AND issued.user_id IS DISTINCT FROM "order".customer_id
    """,
    "a coupon is given back when its order is cancelled": """
        SELECT "order".id, 'not spent', issued.coupon_id, "order".updated_at
        FROM coupons_issuedcoupon issued
        JOIN orders_order "order" ON "order".id = issued.spent_on
        WHERE "order".status = 'CANCELLED'
    """,
    # That of one that is cancelled was given back.
    "a discount is what the coupon takes off that is spent on the order": """
        SELECT "order".id, expected.amount, "order".discount, NULL
        FROM orders_order "order"
        LEFT JOIN coupons_issuedcoupon issued ON issued.spent_on = "order".id
        LEFT JOIN coupons_coupon coupon ON coupon.code = issued.coupon_id
        CROSS JOIN LATERAL (
            SELECT CASE
                WHEN coupon.percent_off IS NOT NULL
                THEN ROUND(("order".total + "order".discount) * coupon.percent_off / 100, 2)
                ELSE LEAST(COALESCE(coupon.amount_off, 0), "order".total + "order".discount)
            END AS amount
        ) expected
        WHERE "order".status <> 'CANCELLED' AND "order".discount <> expected.amount
    """,
    # ── Outbox ───────────────────────────────────────────────────────────────────────────────────────────────────
    # Else the relay, or Kafka, is down or too slow.
    "no event waits in the outbox until the alarm": """
        SELECT event_type || ' ' || COALESCE(event_id::text, id::text), 'sent', created_at, NULL
        FROM outbox_outboxevent
        WHERE created_at < %(now)s - make_interval(secs => %(alarm_seconds)s)
    """,
}


@dataclass(frozen=True)
class Finding:
    """Something that is off: of what, what it should be and what it is, and whether it may still come right."""

    check: str
    subject: str
    expected: str
    actual: str
    in_flight: bool

    def __str__(self) -> str:
        return f"{self.check}: {self.subject}: expected {self.expected}, is {self.actual}"


def find(*, now: datetime, grace: timedelta) -> list[Finding]:
    """Return what is off, by one snapshot of the database. Changes nothing; must not run inside a transaction."""
    findings = []
    alarm_seconds = conf.get("ALARM_SECONDS")
    with snapshot():
        for check, query in CHECKS.items():
            with connection.cursor() as cursor:
                cursor.execute(query, {"now": now, "alarm_seconds": alarm_seconds})
                for subject, expected, actual, since in cursor.fetchall():
                    in_flight = since is not None and now - since < grace
                    findings.append(Finding(check, str(subject), str(expected), str(actual), in_flight))
    return findings


@contextmanager
def snapshot() -> Iterator[None]:
    """Open a transaction in which every query sees the same moment, and none can write."""
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
