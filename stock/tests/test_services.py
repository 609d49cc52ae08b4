"""What changes stock, and what it refuses."""

from collections import Counter
from decimal import Decimal
from functools import partial

import pytest
from django.db import IntegrityError, ProgrammingError, connection, transaction
from uuid_utils.compat import uuid7

from stock import services
from stock.events import StockRejected, StockReleased, StockReserved
from stock.models import Level, Movement, Product, Release, Reservation
from stock.services import Changed, DuplicateSku, ReserveRequest, UnknownSku

HELD, SOLD, RELEASED = Reservation.Status.HELD, Reservation.Status.SOLD, Reservation.Status.RELEASED
Kind = Movement.Kind


def levels():
    return {level.pk: (level.on_hand, level.reserved) for level in Level.objects.all()}


def by_ledger():
    """Return what the levels are by the movements alone."""
    totals = {sku: Counter() for sku in Level.objects.values_list("pk", flat=True)}
    for movement in Movement.objects.all():
        totals[movement.product_id][movement.kind] += movement.quantity
    return {
        sku: (
            of[Kind.RECEIVED] - of[Kind.SOLD] + of[Kind.RETURNED],
            of[Kind.RESERVED] - of[Kind.RELEASED] - of[Kind.SOLD],
        )
        for sku, of in totals.items()
    }


def movements(order_id):
    return sorted(Movement.objects.filter(order_id=order_id).values_list("product_id", "kind", "quantity"))


def version(sku="A1"):
    return Level.objects.get(pk=sku).version


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
        assert levels()["A1"] == by_ledger()["A1"] == (12, 0)
        assert (receipt.product_id, receipt.kind, receipt.quantity) == ("A1", Kind.RECEIVED, 7)
        assert (receipt.by, receipt.order_id) == (customer, None)

    def test_a_receipt_of_an_unknown_sku_is_refused(self, db):
        with pytest.raises(UnknownSku):
            services.receive(sku="A1", quantity=1)
        assert not Movement.objects.exists()

    @pytest.mark.parametrize("quantity", [0, -2])
    def test_a_receipt_of_nothing_is_refused_by_the_database(self, goods, quantity):
        with pytest.raises(IntegrityError), transaction.atomic():
            services.receive(sku="A1", quantity=quantity)
        assert levels()["A1"] == (5, 0)

    def test_an_update_of_a_product_that_changed_meanwhile_is_refused(self, goods):
        seen = version()
        reserve(A1=1)
        with pytest.raises(Changed):
            services.update_product(sku="A1", name="New", version=seen)
        assert services.update_product(sku="A1", name="New", version=version()).name == "New"

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
        assert movements(order_id) == [("A1", Kind.RESERVED, 2), ("B2", Kind.RESERVED, 3)]

    def test_takes_no_line_when_one_is_short(self, goods, outbox):
        order_id = reserve(A1=2, B2=4)
        assert levels() == {"A1": (5, 0), "B2": (3, 0)}
        assert not Reservation.objects.exists()
        assert movements(order_id) == []
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
        order_ids = [uuid7() for _ in range(50)]
        with django_assert_max_num_queries(12):
            services.reserve(requests=[ReserveRequest(order_id, {"A1": 1, "B2": 1}) for order_id in order_ids])
        with django_assert_max_num_queries(8):
            services.sell(order_ids=order_ids[:2])
        with django_assert_max_num_queries(10):
            services.release(order_ids=order_ids)


@pytest.mark.django_db
class TestSell:
    def test_takes_the_units_from_what_is_on_hand(self, goods, outbox):
        order_id = reserve(A1=2)
        services.sell(order_ids=[order_id])
        assert levels()["A1"] == (3, 0)
        assert Reservation.objects.get().status == SOLD
        assert movements(order_id) == [("A1", Kind.RESERVED, 2), ("A1", Kind.SOLD, 2)]
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
        assert movements(order_id) == [
            ("A1", Kind.RELEASED, 2),
            ("A1", Kind.RESERVED, 2),
            ("B2", Kind.RELEASED, 1),
            ("B2", Kind.RESERVED, 1),
        ]

    def test_puts_back_what_was_sold(self, goods, outbox):
        order_id = reserve(A1=2)
        services.sell(order_ids=[order_id])
        services.release(order_ids=[order_id])
        assert levels()["A1"] == (5, 0)
        assert outbox.types == ["stock.reserved", "stock.released"]
        assert movements(order_id) == [("A1", Kind.RESERVED, 2), ("A1", Kind.RETURNED, 2), ("A1", Kind.SOLD, 2)]

    def test_tells_what_was_held_from_what_was_sold(self, goods):
        held, sold = reserve(A1=2), reserve(A1=1)
        services.sell(order_ids=[sold])
        services.release(order_ids=[sold, held])
        assert levels()["A1"] == by_ledger()["A1"] == (5, 0)
        assert [kind for _, kind, _ in movements(held)] == [Kind.RELEASED, Kind.RESERVED]
        assert [kind for _, kind, _ in movements(sold)] == [Kind.RESERVED, Kind.RETURNED, Kind.SOLD]

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

    def test_lets_a_reservation_go_only_forward(self, goods):
        order_id = reserve(A1=1)
        services.sell(order_ids=[order_id])
        with pytest.raises(ProgrammingError, match="Invalid transition"), transaction.atomic():
            Reservation.objects.update(status=HELD)
        services.release(order_ids=[order_id])
        for status in (HELD, SOLD):
            with pytest.raises(ProgrammingError, match="Invalid transition"), transaction.atomic():
                Reservation.objects.update(status=status)

    @pytest.mark.parametrize("kind", [Kind.RESERVED, Kind.SOLD, Kind.RETURNED])
    def test_refuses_a_second_movement_of_a_kind_for_a_line(self, goods, kind):
        order_id = reserve(A1=1)
        services.sell(order_ids=[order_id])
        services.release(order_ids=[order_id])
        with pytest.raises(IntegrityError, match="movement_once"):
            Movement.objects.create(order_id=order_id, product_id="A1", quantity=1, kind=kind)

    def test_refuses_a_second_release_of_a_line(self, goods):
        order_id = reserve(A1=1)
        services.release(order_ids=[order_id])
        with pytest.raises(IntegrityError, match="movement_once"):
            Movement.objects.create(order_id=order_id, product_id="A1", quantity=1, kind=Kind.RELEASED)

    @pytest.mark.parametrize(
        ("values", "constraint"),
        [
            ({"kind": Kind.RECEIVED, "quantity": 0}, "movement_quantity_above_zero"),
            ({"kind": Kind.RECEIVED, "order_id": uuid7()}, "movement_fits_its_kind"),
            ({"kind": Kind.SOLD}, "movement_fits_its_kind"),
            ({"kind": "LOST"}, "movement_fits_its_kind"),
            ({"kind": Kind.SOLD, "order_id": uuid7(), "by": True}, "movement_fits_its_kind"),
        ],
    )
    def test_refuses_movements_that_cannot_be(self, goods, customer, values, constraint):
        by = customer if values.get("by") else None
        with pytest.raises(IntegrityError, match=constraint):
            Movement.objects.create(**{"product_id": "A1", "quantity": 1, **values, "by": by})

    @pytest.mark.parametrize(
        "statement", ["UPDATE stock_movement SET quantity = quantity + 1", "DELETE FROM stock_movement"]
    )
    def test_lets_no_movement_be_changed_or_deleted(self, goods, statement):
        with pytest.raises(ProgrammingError, match="Cannot update or delete"), connection.cursor() as cursor:
            cursor.execute(statement)


@pytest.mark.django_db
class TestVersions:
    @pytest.mark.parametrize(
        "change",
        [
            lambda held, sold: services.update_product(sku="A1", name="New"),
            lambda held, sold: services.receive(sku="A1", quantity=1),
            lambda held, sold: reserve(A1=1),
            lambda held, sold: services.sell(order_ids=[held]),
            lambda held, sold: services.release(order_ids=[held, sold]),
        ],
        ids=["update_product", "receive", "reserve", "sell", "release"],
    )
    def test_grow_with_each_change_and_with_none_of_another_product(self, goods, change):
        held, sold = reserve(A1=1), reserve(A1=1)
        services.sell(order_ids=[sold])
        before, other = version(), version("B2")
        change(held, sold)
        assert (version(), version("B2")) == (before + 1, other)

    def test_stay_where_nothing_changes(self, goods):
        order_id = reserve(A1=1)
        before = version()
        reserve(A1=100)
        services.release(order_ids=[uuid7()])
        services.sell(order_ids=[uuid7()])
        services.reserve(requests=[ReserveRequest(order_id, {"A1": 1})])
        assert version() == before


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

    def test_the_last_ten_units_go_to_ten_of_a_hundred_orders(self, goods, at_once, outbox):
        services.receive(sku="A1", quantity=5)

        def buy(orders):
            for _ in range(orders):
                reserve(A1=1)

        assert at_once(*[partial(buy, 5)] * 20) == [None] * 20
        assert levels()["A1"] == by_ledger()["A1"] == (10, 10)
        assert Counter(outbox.types) == {"stock.reserved": 10, "stock.rejected": 90}
        assert Reservation.objects.held().count() == 10

    def test_batches_that_name_the_same_goods_in_opposite_orders_do_not_deadlock(self, goods, at_once):
        services.receive(sku="A1", quantity=1000)
        services.receive(sku="B2", quantity=1000)

        def many(quantities):
            for _ in range(20):
                requests = [ReserveRequest(uuid7(), quantities) for _ in range(3)]
                services.reserve(requests=requests)
                services.sell(order_ids=[request.order_id for request in requests[:2]])
                services.release(order_ids=[request.order_id for request in reversed(requests[1:])])

        calls = [partial(many, {"A1": 1, "B2": 1}), partial(many, {"B2": 1, "A1": 1})] * 2
        assert at_once(*calls) == [None] * 4
        # Of three orders one is sold, one sold and put back, one given back.
        assert levels() == by_ledger() == {"A1": (1005 - 80, 0), "B2": (1003 - 80, 0)}

    def test_each_end_of_an_order_has_one_winner(self, goods, at_once):
        services.receive(sku="A1", quantity=100)
        for _ in range(20):
            order_id = reserve(A1=1)
            ends = [partial(services.sell, order_ids=[order_id]), partial(services.release, order_ids=[order_id])]
            assert at_once(*ends * 2) == [None] * 4
            kinds = {kind for _, kind, _ in movements(order_id)}
            assert kinds in ({Kind.RESERVED, Kind.RELEASED}, {Kind.RESERVED, Kind.SOLD, Kind.RETURNED})
        assert levels() == by_ledger() == {"A1": (105, 0), "B2": (3, 0)}

    def test_no_unit_is_lost_between_receipts_reservations_sales_and_cancels(self, goods, at_once):
        services.receive(sku="A1", quantity=200)

        def receive():
            for _ in range(20):
                services.receive(sku="A1", quantity=10)

        def sell(orders):
            for order_id in orders:
                services.sell(order_ids=[order_id])

        def release(orders):
            for order_id in orders:
                services.release(order_ids=[order_id])

        def buy():
            for _ in range(20):
                reserve(A1=1, B2=1)

        def rename():
            for number in range(20):
                services.update_product(sku="A1", name=f"Number {number}")

        sold, released, both = [[reserve(A1=1) for _ in range(20)] for _ in range(3)]
        before = version()
        outcomes = at_once(
            receive,
            buy,
            rename,
            partial(sell, sold),
            partial(release, released),
            partial(sell, both),
            partial(release, both),
        )
        assert outcomes == [None] * 7
        assert levels() == by_ledger() == {"A1": (5 + 200 + 200 - 20, 3), "B2": (3, 3)}
        # Receipts, 3 reservations, new names, sales, releases, and of both one or two movements.
        assert 20 + 3 + 20 + 20 + 20 + 20 <= version() - before <= 20 + 3 + 20 + 20 + 20 + 40


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
