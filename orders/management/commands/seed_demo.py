"""Fill an empty installation with what the demo needs: manage.py seed_demo

Declared exception: the command calls the services of accounts, coupons and stock, since the demo spans them.
"""

from argparse import ArgumentParser
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

import accounts.services
import coupons.services
import stock.services

PASSWORD = "orderbox-demo"
USERNAMES = ["alice", "bob", "admin"]
# SKU: name, price, units.
PRODUCTS = {
    "A001": ("Coffee beans, 1 kg", "18.90", 100_000),
    "A002": ("Green tea, 100 bags", "7.50", 100_000),
    "A003": ("Mug", "9.00", 100_000),
    "A004": ("French press", "34.50", 100_000),
    "A005": ("Milk frother", "24.00", 100_000),
    "A006": ("Coffee grinder", "59.00", 100_000),
    "A007": ("Paper filters, 100", "4.20", 100_000),
    "A008": ("Kettle", "45.00", 100_000),
    "A009": ("Kitchen scale", "29.90", 100_000),
    "A010": ("Espresso machine", "489.00", 100_000),
    "RARE1": ("Hand-thrown teapot", "120.00", 10),
}


class Command(BaseCommand):
    help = "Add the demo's users, products and coupon, unless they are there. Only for demos: the passwords are public."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--force", action="store_true", help="yes, this is a demo, though not of make run")

    @transaction.atomic
    def handle(self, *, force: bool, **options: Any) -> None:
        if not (settings.DEMO or force):
            raise CommandError("seed_demo makes an admin whose password is public: only for demos, with --force.")
        for username in USERNAMES:
            self.add_user(username)
        for sku, (name, price, units) in PRODUCTS.items():
            self.add_product(sku, name, Decimal(price), units)
        self.add_coupon()

    def add_user(self, username: str) -> None:
        if get_user_model().objects.filter(username__iexact=username).exists():
            return
        user = accounts.services.register(username=username, email=f"{username}@example.com", password=PASSWORD)
        if username == "admin":
            user.is_staff = user.is_superuser = True
            user.save(update_fields=["is_staff", "is_superuser"])
        self.stdout.write(f"Added the user {username}.")

    def add_product(self, sku: str, name: str, price: Decimal, units: int) -> None:
        try:
            stock.services.add_product(sku=sku, name=name, price=price)
        except stock.services.DuplicateSku:
            return
        stock.services.receive(sku=sku, quantity=units)
        self.stdout.write(f"Added {units:,} of {sku} {name}.")

    def add_coupon(self) -> None:
        try:
            coupons.services.create(code="WELCOME", name="Welcome", quantity=100, percent_off=10)
        except coupons.services.DuplicateCode:
            return
        self.stdout.write("Added 100 of the coupon WELCOME.")
