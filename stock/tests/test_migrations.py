"""What was in stock before there was a ledger."""

from datetime import timedelta
from importlib import import_module

import pytest
from django.utils import timezone
from uuid_utils.compat import uuid7

from stock.models import Movement

BEFORE, AFTER = "0001_initial", "0003_receipts_become_movements"


@pytest.mark.django_db
def test_rows_are_written_as_they_are_read(goods, monkeypatch):
    migration = import_module(f"stock.migrations.{AFTER}")
    monkeypatch.setattr(migration, "CHUNK", 2)
    before = Movement.objects.count()
    unwritten = []

    def rows():
        for number in range(5):
            unwritten.append(number - (Movement.objects.count() - before))
            yield Movement(kind="RECEIVED", product_id="A1", quantity=1)

    migration.write(Movement.objects, rows())
    assert unwritten == [0, 1, 0, 1, 0]
    assert Movement.objects.count() == before + 5


def test_what_there_was_is_in_the_ledger(staff, migrate):
    old = migrate("stock", BEFORE)
    product = old.get_model("stock", "Product").objects.create(sku="A1", name="Lamp", price=1)
    old.get_model("stock", "Level").objects.create(product=product, on_hand=6, reserved=1)
    receipts = old.get_model("stock", "Receipt").objects
    received = [receipts.create(product=product, quantity=units, received_by_id=staff.pk) for units in (3, 5)]
    created, updated = timezone.now() - timedelta(hours=2), timezone.now() - timedelta(hours=1)
    for status, quantity in {"HELD": 1, "SOLD": 2, "RELEASED": 4}.items():
        old.get_model("stock", "Reservation").objects.create(
            order_id=uuid7(), product=product, quantity=quantity, status=status, created_at=created, updated_at=updated
        )

    new = migrate("stock", AFTER)
    movements = new.get_model("stock", "Movement").objects
    told = movements.order_by("at", "quantity").values_list("kind", "quantity", "by", "at")
    assert list(told) == [
        ("RESERVED", 1, None, created),
        ("RESERVED", 2, None, created),
        ("RESERVED", 4, None, created),
        ("SOLD", 2, None, updated),
        ("RELEASED", 4, None, updated),
        *[("RECEIVED", receipt.quantity, staff.pk, receipt.received_at) for receipt in received],
    ]
    assert new.get_model("stock", "Level").objects.get().version == 1

    old = migrate("stock", BEFORE)
    assert list(old.get_model("stock", "Receipt").objects.order_by("id").values()) == [
        {
            "id": receipt.pk,
            "product_id": "A1",
            "quantity": receipt.quantity,
            "received_by_id": staff.pk,
            "received_at": receipt.received_at,
        }
        for receipt in received
    ]
