"""What came in, was set aside, sold and released until now, as movements."""

from itertools import islice

from django.db import migrations
from uuid_utils.compat import uuid7

# How many rows are read and written at once.
CHUNK = 2000


def write(manager, rows):
    """Write rows as they are read: bulk_create makes a list of all that it is given."""
    while chunk := list(islice(rows, CHUNK)):
        manager.bulk_create(chunk)


def write_movements(apps, schema_editor):
    Movement = apps.get_model("stock", "Movement")
    receipts = (
        Movement(
            id=receipt.id,
            kind="RECEIVED",
            product_id=receipt.product_id,
            quantity=receipt.quantity,
            by_id=receipt.received_by_id,
            at=receipt.received_at,
        )
        for receipt in apps.get_model("stock", "Receipt").objects.order_by("id").iterator(CHUNK)
    )
    write(Movement.objects, receipts)
    moves = (
        (kind, at, reservation)
        for reservation in apps.get_model("stock", "Reservation").objects.order_by("id").iterator(CHUNK)
        for kind, at in (("RESERVED", reservation.created_at), (reservation.status, reservation.updated_at))
        # Whether what was released had been sold before is not known. Both leave the level as it was.
        if kind != "HELD"
    )
    movements = (
        Movement(
            # In the order of their times, as all movements are.
            id=uuid7(nanoseconds=int(at.timestamp() * 1_000_000_000)),
            kind=kind,
            product_id=reservation.product_id,
            quantity=reservation.quantity,
            order_id=reservation.order_id,
            at=at,
        )
        for kind, at, reservation in moves
    )
    write(Movement.objects, movements)


def write_receipts(apps, schema_editor):
    received = apps.get_model("stock", "Movement").objects.filter(kind="RECEIVED").order_by("id")
    Receipt = apps.get_model("stock", "Receipt")
    receipts = (
        Receipt(
            id=movement.id,
            product_id=movement.product_id,
            quantity=movement.quantity,
            received_by_id=movement.by_id,
            received_at=movement.at,
        )
        for movement in received.iterator(CHUNK)
    )
    write(Receipt.objects, receipts)


class Migration(migrations.Migration):
    dependencies = [("stock", "0002_movements")]

    operations = [
        migrations.RunPython(write_movements, write_receipts),
        migrations.DeleteModel("Receipt"),
    ]
