"""Facts that stock publishes."""

from uuid import UUID

from outbox import Event, Topic

STOCK = Topic("stock-events")


class StockReserved(Event, topic=STOCK, type="stock.reserved", key="order_id"):
    """Every line of the order is set aside for it."""

    order_id: UUID


class StockRejected(Event, topic=STOCK, type="stock.rejected", key="order_id"):
    """Nothing was set aside, since these SKUs fell short."""

    order_id: UUID
    short_skus: list[str]


class StockReleased(Event, topic=STOCK, type="stock.released", key="order_id"):
    """What the order held or had bought can be sold again."""

    order_id: UUID
