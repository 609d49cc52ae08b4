"""Everything that changes stock. Each function is one transaction.

Whatever changes a level, or the product it belongs to, holds the level's row, gives it a higher version, and says so to
the pages in Redis. Each change of a level stands in the ledger, Movement, too.

Events about one order are applied one after another, which the outbox sees to; different orders run side by side, and
the locked levels decide who gets the last units.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from outbox import publish
from stock import pages
from stock.events import StockRejected, StockReleased, StockReserved
from stock.models import Level, Movement, Product, Release, Reservation

Kind = Movement.Kind


class UnknownSku(LookupError):
    """No such products, or none that can be ordered: `skus`."""

    def __init__(self, skus: Iterable[str]) -> None:
        self.skus = sorted(skus)
        super().__init__(f"unknown SKU: {', '.join(self.skus)}")


class DuplicateSku(ValueError):
    """A product has this SKU already: `sku`."""

    def __init__(self, sku: str) -> None:
        self.sku = sku
        super().__init__(f"SKU is taken: {sku}")


class Changed(Exception):
    """The product or its level is no longer as it was when somebody decided to change it."""


@dataclass(frozen=True)
class Quote:
    """The price of one unit, in settings.CURRENCY."""

    sku: str
    name: str
    unit_price: Decimal


@dataclass(frozen=True)
class ReserveRequest:
    """An order's units by SKU."""

    order_id: UUID
    quantities: dict[str, int]


@transaction.atomic
def add_product(*, sku: str, name: str, price: Decimal) -> Product:
    """Add a product, with nothing on hand.

    Raises:
        DuplicateSku: there is one.
    """
    try:
        with transaction.atomic():
            product = Product.objects.create(sku=sku, name=name, price=price)
    except IntegrityError as error:
        if Product.objects.filter(pk=sku).exists():
            raise DuplicateSku(sku) from error
        raise
    Level.objects.create(product=product)
    return product


@transaction.atomic
def update_product(
    *,
    sku: str,
    name: str | None = None,
    price: Decimal | None = None,
    active: bool | None = None,
    version: int | None = None,
) -> Product:
    """Change what is given. Orders that were placed keep their price.

    Raises:
        UnknownSku: there is no such product.
        Changed: its level has another version than `version`.
    """
    level = _lock_one(sku)
    if version not in (None, level.version):
        raise Changed
    changes = {"name": name, "price": price, "active": active}
    given = {field: value for field, value in changes.items() if value is not None}
    Product.objects.filter(pk=sku).update(**given, updated_at=timezone.now())
    _save([level])
    return Product.objects.with_levels().get(pk=sku)


@transaction.atomic
def receive(*, sku: str, quantity: int, received_by: UUID | None = None) -> Movement:
    """Take in units above zero, at once available. `received_by` is the id of the user who took them in.

    Raises:
        UnknownSku: there is no such product.
    """
    level = _lock_one(sku)
    level.on_hand += quantity
    receipt = Movement.objects.create(kind=Kind.RECEIVED, product_id=sku, quantity=quantity, by_id=received_by)
    _save([level])
    return receipt


def quote(*, skus: Iterable[str]) -> dict[str, Quote]:
    """Return the present price of each SKU.

    Raises:
        UnknownSku: one or more are no active products.
    """
    wanted = set(skus)
    products = Product.objects.active().filter(pk__in=wanted)
    quotes = {product.sku: Quote(product.sku, product.name, product.price) for product in products}
    if unknown := wanted - quotes.keys():
        raise UnknownSku(unknown)
    return quotes


@transaction.atomic
def reserve(*, requests: Sequence[ReserveRequest]) -> None:
    """Set aside units for each order, in the order given: every line of it, or none.

    Publishes StockReserved, or StockRejected naming the SKUs that fell short. An order that was decided on or
    released before is left alone.
    """
    order_ids = [request.order_id for request in requests]
    decided = Release.objects.for_orders(order_ids)
    decided.update(Reservation.objects.for_orders(order_ids).values_list("order_id", flat=True))
    levels = Level.objects.lock(sku for request in requests for sku in request.quantities)
    events: list[StockReserved | StockRejected] = []
    reservations, rejections = [], []
    for request in requests:
        if request.order_id in decided:
            continue
        decided.add(request.order_id)
        short = [sku for sku, wanted in request.quantities.items() if _available(levels, sku) < wanted]
        if short:
            rejections.append(Release(order_id=request.order_id))
            events.append(StockRejected(order_id=request.order_id, short_skus=sorted(short)))
            continue
        for sku, quantity in request.quantities.items():
            levels[sku].reserved += quantity
            reservations.append(Reservation(order_id=request.order_id, product_id=sku, quantity=quantity))
        events.append(StockReserved(order_id=request.order_id))

    Reservation.objects.bulk_create(reservations)
    _add_movements(reservations, Kind.RESERVED)
    Release.objects.bulk_create(rejections)
    publish(*events)
    _save(_changed(levels, reservations))


@transaction.atomic
def sell(*, order_ids: Sequence[UUID]) -> None:
    """Turn what these orders hold into sales. What was released or sold before stays so."""
    held = Reservation.objects.for_orders(order_ids).held().lock()
    levels = Level.objects.lock(reservation.product_id for reservation in held)
    for reservation in held:
        level = levels[reservation.product_id]
        level.reserved -= reservation.quantity
        level.on_hand -= reservation.quantity

    _mark(held, Reservation.Status.SOLD)
    _add_movements(held, Kind.SOLD)
    _save(_changed(levels, held))


@transaction.atomic
def release(*, order_ids: Sequence[UUID]) -> None:
    """Give back what these orders hold or have bought, and refuse them stock from now on.

    Publishes StockReleased for each order that had something to give back.
    """
    taken = Reservation.objects.for_orders(order_ids).taken().lock()
    held = [reservation for reservation in taken if reservation.status == Reservation.Status.HELD]
    sold = [reservation for reservation in taken if reservation.status == Reservation.Status.SOLD]
    levels = Level.objects.lock(reservation.product_id for reservation in taken)
    for reservation in held:
        levels[reservation.product_id].reserved -= reservation.quantity
    for reservation in sold:
        levels[reservation.product_id].on_hand += reservation.quantity

    _mark(taken, Reservation.Status.RELEASED)
    _add_movements(held, Kind.RELEASED)
    _add_movements(sold, Kind.RETURNED)
    Release.objects.bulk_create(
        [Release(order_id=order_id) for order_id in sorted(set(order_ids))], ignore_conflicts=True
    )
    publish(*[StockReleased(order_id=order_id) for order_id in dict.fromkeys(r.order_id for r in taken)])
    _save(_changed(levels, taken))


def _available(levels: dict[str, Level], sku: str) -> int:
    return levels[sku].available if sku in levels else 0


def _lock_one(sku: str) -> Level:
    """Return a product's level, locked.

    Raises:
        UnknownSku: there is no such product.
    """
    levels = Level.objects.lock([sku])
    if not levels:
        raise UnknownSku([sku])
    return levels[sku]


def _changed(levels: dict[str, Level], reservations: Sequence[Reservation]) -> list[Level]:
    """Return the levels that these reservations changed."""
    return [levels[sku] for sku in sorted({reservation.product_id for reservation in reservations})]


def _save(levels: Sequence[Level]) -> None:
    """Write locked levels, as the last thing in a transaction: from now on readers wait for its end."""
    for level in levels:
        level.version += 1
    Level.objects.bulk_update(levels, ["on_hand", "reserved", "version"])
    pages.mark_changed({level.pk: level.version for level in levels})


def _mark(reservations: Sequence[Reservation], status: Reservation.Status) -> None:
    ids = [reservation.pk for reservation in reservations]
    Reservation.objects.filter(pk__in=ids).update(status=status, updated_at=timezone.now())


def _add_movements(reservations: Sequence[Reservation], kind: Movement.Kind) -> None:
    Movement.objects.bulk_create(
        [
            Movement(
                kind=kind,
                product_id=reservation.product_id,
                quantity=reservation.quantity,
                order_id=reservation.order_id,
            )
            for reservation in reservations
        ]
    )
