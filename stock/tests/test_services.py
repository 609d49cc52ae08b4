"""What changes stock, and what it refuses."""

from decimal import Decimal
from functools import partial

import pytest
from django.db import IntegrityError, transaction
from uuid_utils.compat import uuid7

from stock import services
from stock.events import StockRejected, StockReleased, StockReserved
from stock.models import Level, Product, Receipt, Release, Reservation
from stock.services import DuplicateSku, ReserveRequest, UnknownSku

HELD, SOLD, RELEASED = Reservation.Status.HELD, Reservation.Status.SOLD, Reservation.Status.RELEASED


def levels():
    return {level.pk: (level.on_hand, level.reserved) for level in Level.objects.all()}


def reserve(**quantities):
    """Reserve for a new order and return its id."""
    order_id = uuid7()
    services.reserve(requests=[ReserveRequest(order_id, quantities)])
    return order_id


@pytest.mark.django_db
class TestProducts:
    def test_a_new_product_has_nothing_on_hand(self):
        services.add_product(sku="C3", name="Cup", price=Decimal("3.50"))
        assert levels() == {"C3": (0, 0)}
        assert Product.objects.with_levels().get(pk="C3").available == 0

    def test_a_sku_that_is_taken_is_refused_and_the_transaction_goes_on(self, goods):
        with pytest.raises(DuplicateSku, match="A1"):
            services.add_product(sku="A1", name="Another", price=Decimal("1.00"))
        assert Product.objects.get(pk="A1").name == "The A1"

    @pytest.mark.parametrize("price", ["0.00", "-1.00"])
    def test_a_price_is_above_zero(self, price):
        with pytest.raises(IntegrityError, match="product_price_above_zero"):
            services.add_product(sku="C3", name="Cup", price=Decimal(price))

    def test_an_update_changes_only_what_is_given(self, goods):
        before = Product.objects.get(pk="A1")
        product = services.update_product(sku="A1", price=Decimal("12.00"))
        assert (product.name, product.price, product.active) == ("The A1", Decimal("12.00"), True)
        assert product.updated_at > before.updated_at
        assert not services.update_product(sku="A1", active=False).active

    def test_an_update_of_an_unknown_sku_is_refused(self, db):
        with pytest.raises(UnknownSku):
            services.update_product(sku="A1", name="New")

    def test_what_is_received_is_at_once_available(self, goods, customer):
        receipt = services.receive(sku="A1", quantity=7, received_by=customer.id)
        assert levels()["A1"] == (12, 0)
        assert (receipt.product_id, receipt.quantity, receipt.received_by) == ("A1", 7, customer)

    def test_a_receipt_of_an_unknown_sku_is_refused(self, db):
        with pytest.raises(UnknownSku):
            services.receive(sku="A1", quantity=1)
        assert not Receipt.objects.exists()

    @pytest.mark.parametrize("quantity", [0, -2])
    def test_a_receipt_of_nothing_is_refused_by_the_database(self, goods, quantity):
        with pytest.raises(IntegrityError), transaction.atomic():
            services.receive(sku="A1", quantity=quantity)
        assert levels()["A1"] == (5, 0)

    def test_a_quote_names_every_sku_that_cannot_be_ordered(self, goods):
        services.update_product(sku="B2", active=False)
        with pytest.raises(UnknownSku) as caught:
            services.quote(skus=["B2", "A1", "X9"])
        assert caught.value.skus == ["B2", "X9"]

    def test_a_quote_tells_the_present_price(self, goods):
        services.update_product(sku="A1", price=Decimal("12.00"))
        assert services.quote(skus=["A1"]) == {"A1": services.Quote("A1", "The A1", Decimal("12.00"))}

    def test_products_are_found_by_what_is_left(self, goods):
        reserve(B2=3)
        assert [product.pk for product in Product.objects.available()] == ["A1"]
        assert [product.pk for product in Product.objects.sold_out()] == ["B2"]


@pytest.mark.django_db
class TestReserve:
    def test_takes_every_line(self, goods, outbox):
        order_id = reserve(A1=2, B2=3)
        assert levels() == {"A1": (5, 2), "B2": (3, 3)}
        assert outbox.events == [StockReserved(order_id=order_id)]

    def test_takes_no_line_when_one_is_short(self, goods, outbox):
        order_id = reserve(A1=2, B2=4)
        assert levels() == {"A1": (5, 0), "B2": (3, 0)}
        assert not Reservation.objects.exists()
        assert outbox.events == [StockRejected(order_id=order_id, short_skus=["B2"])]

    def test_names_every_sku_that_is_short(self, goods, outbox):
        reserve(X9=1, B2=4, A1=6)
        assert outbox.published(StockRejected).short_skus == ["A1", "B2", "X9"]

    def test_serves_the_requests_of_a_batch_in_their_order(self, goods, outbox):
        first, second, third = uuid7(), uuid7(), uuid7()
        services.reserve(
            requests=[
                ReserveRequest(first, {"A1": 3}),
                ReserveRequest(second, {"A1": 3}),
                ReserveRequest(third, {"A1": 2}),
            ]
        )
        assert outbox.events == [
            StockReserved(order_id=first),
            StockRejected(order_id=second, short_skus=["A1"]),
            StockReserved(order_id=third),
        ]
        assert levels()["A1"] == (5, 5)

    def test_answers_an_order_that_stands_twice_in_a_batch_once(self, goods, outbox):
        request = ReserveRequest(uuid7(), {"A1": 2})
        services.reserve(requests=[request, request])
        assert levels()["A1"] == (5, 2)
        assert len(outbox.events) == 1

    def test_a_rejected_order_stays_so_when_stock_comes_in(self, goods, rows):
        request = ReserveRequest(uuid7(), {"A1": 6})
        services.reserve(requests=[request])
        services.receive(sku="A1", quantity=10)
        before = rows()
        services.reserve(requests=[request])
        assert rows() == before

    def test_asks_the_database_as_often_for_many_orders_as_for_one(self, goods, django_assert_max_num_queries):
        services.receive(sku="A1", quantity=1000)
        with django_assert_max_num_queries(10):
            services.reserve(requests=[ReserveRequest(uuid7(), {"A1": 1, "B2": 1}) for _ in range(50)])


@pytest.mark.django_db
class TestSell:
    def test_takes_the_units_from_what_is_on_hand(self, goods, outbox):
        order_id = reserve(A1=2)
        services.sell(order_ids=[order_id])
        assert levels()["A1"] == (3, 0)
        assert Reservation.objects.get().status == SOLD
        assert outbox.types == ["stock.reserved"]

    def test_leaves_other_orders_alone(self, goods):
        mine, other = reserve(A1=2), reserve(A1=1)
        services.sell(order_ids=[mine])
        assert levels()["A1"] == (3, 1)
        assert Reservation.objects.get(order_id=other).status == HELD


@pytest.mark.django_db
class TestRelease:
    def test_gives_back_what_was_held(self, goods, outbox):
        order_id = reserve(A1=2, B2=1)
        services.release(order_ids=[order_id])
        assert levels() == {"A1": (5, 0), "B2": (3, 0)}
        assert {reservation.status for reservation in Reservation.objects.all()} == {RELEASED}
        assert outbox.events[1:] == [StockReleased(order_id=order_id)]

    def test_puts_back_what_was_sold(self, goods, outbox):
        order_id = reserve(A1=2)
        services.sell(order_ids=[order_id])
        services.release(order_ids=[order_id])
        assert levels()["A1"] == (5, 0)
        assert outbox.types == ["stock.reserved", "stock.released"]

    def test_of_nothing_tells_nothing_but_is_remembered(self, goods, outbox):
        order_id = uuid7()
        services.release(order_ids=[order_id])
        assert outbox.events == []
        assert Release.objects.filter(pk=order_id).exists()


@pytest.mark.django_db
class TestDatabase:
    @pytest.mark.parametrize("values", [{"on_hand": -1}, {"reserved": -1}, {"reserved": 6}])
    def test_refuses_levels_that_cannot_be(self, goods, values):
        with pytest.raises(IntegrityError, match="level_"):
            Level.objects.filter(pk="A1").update(**values)

    def test_refuses_a_second_reservation_of_a_line(self, goods):
        order_id = reserve(A1=1)
        with pytest.raises(IntegrityError, match="reservation_once"):
            Reservation.objects.create(order_id=order_id, product_id="A1", quantity=1)


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_the_last_units_go_to_one_of_two_orders(self, goods, at_once, outbox):
        for _ in range(10):
            at_once(partial(reserve, B2=3), partial(reserve, B2=3))
            assert levels()["B2"] == (3, 3)
            services.release(order_ids=Reservation.objects.held().values_list("order_id", flat=True))
        assert sorted(outbox.types) == [
            *["stock.rejected"] * 10,
            *["stock.released"] * 10,
            *["stock.reserved"] * 10,
        ]

    def test_orders_that_name_the_same_goods_in_another_order_do_not_deadlock(self, goods, at_once):
        services.receive(sku="A1", quantity=1000)
        services.receive(sku="B2", quantity=1000)

        def many(quantities):
            for _ in range(20):
                services.reserve(requests=[ReserveRequest(uuid7(), quantities) for _ in range(3)])

        calls = [partial(many, {"A1": 1, "B2": 1}), partial(many, {"B2": 1, "A1": 1})] * 2
        assert at_once(*calls) == [None] * 4
        assert levels() == {"A1": (1005, 240), "B2": (1003, 240)}

    def test_no_unit_is_lost_between_receipts_sales_and_cancels(self, goods, at_once):
        sold, released = [[reserve(A1=1) for _ in range(2)] for _ in range(2)]
        outcomes = at_once(
            partial(services.receive, sku="A1", quantity=10),
            partial(services.sell, order_ids=sold),
            partial(services.release, order_ids=released),
            partial(reserve, A1=1),
        )
        assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert levels()["A1"] == (5 + 10 - 2, 1)


@pytest.mark.django_db(transaction=True)
class TestCrashBeforeCommit:
    @pytest.mark.parametrize(
        "write",
        [
            lambda held, sold: services.add_product(sku="C3", name="Cup", price=Decimal("1.00")),
            lambda held, sold: services.update_product(sku="A1", name="New"),
            lambda held, sold: services.receive(sku="A1", quantity=1),
            lambda held, sold: reserve(A1=1),
            lambda held, sold: reserve(A1=100),
            lambda held, sold: services.sell(order_ids=[held]),
            lambda held, sold: services.release(order_ids=[held, sold, uuid7()]),
        ],
        ids=["add_product", "update_product", "receive", "reserve", "reject", "sell", "release"],
    )
    def test_leaves_nothing(self, goods, outbox, rows, write):
        held, sold = reserve(A1=1), reserve(A1=1)
        services.sell(order_ids=[sold])
        before = rows()
        outbox.crash(partial(write, held, sold))
        assert rows() == before
