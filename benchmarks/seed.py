"""Fills a new database with a shop: tables, goods and customers. Run with: python -m benchmarks.seed

By the services, so that its books add up. Prints the tokens and the SKUs as JSON.
"""

import json
import sys
from decimal import Decimal

import django
from django.core.management import call_command

# Many, so that orders seldom wait for each other at a product or a wallet.
PRODUCTS, UNITS = 200, 1_000_000
CUSTOMERS, MONEY = 200, Decimal("10000000.00")
# Customers with an empty wallet.
POOR = 20
# A product of which nobody gets as many as are asked for.
SCARCE, SCARCE_UNITS = "SCARCE", 5


def main() -> None:
    """Migrate, fill, and tell."""
    django.setup()
    call_command("migrate", verbosity=0)
    skus = [f"B{number:04}" for number in range(PRODUCTS)]
    for number, sku in enumerate(skus):
        add_product(sku, Decimal(5 + number % 20), UNITS)
    add_product(SCARCE, Decimal(100), SCARCE_UNITS)
    filled = {"customers": add_customers("rich", CUSTOMERS, MONEY), "poor": add_customers("poor", POOR), "skus": skus}
    json.dump(filled, sys.stdout)


def add_product(sku: str, price: Decimal, units: int) -> None:
    """Add a product with so many units on hand."""
    import stock.services

    stock.services.add_product(sku=sku, name=f"Product {sku}", price=price)
    stock.services.receive(sku=sku, quantity=units)


def add_customers(name: str, number: int, money: Decimal | None = None) -> list[str]:
    """Add so many users, with money in the wallet, and return a token of each.

    They can not log in: to hash their passwords would take minutes.
    """
    from knox.models import AuthToken

    import payments.services
    from accounts.models import User

    tokens = []
    for place in range(number):
        username = f"{name}-{place}"
        user = User.objects.create(username=username, email=f"{username}@example.com", password="!")
        if money is not None:
            payments.services.deposit(user_id=user.pk, amount=money)
        tokens.append(AuthToken.objects.create(user=user)[1])
    return tokens


if __name__ == "__main__":
    main()
