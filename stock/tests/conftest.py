"""A shop with two products."""

from decimal import Decimal

import pytest

from stock import services


@pytest.fixture
def goods(db: None) -> None:
    """5 units of A1 and 3 of B2."""
    for sku, units in {"A1": 5, "B2": 3}.items():
        services.add_product(sku=sku, name=f"The {sku}", price=Decimal("10.00"))
        services.receive(sku=sku, quantity=units)
