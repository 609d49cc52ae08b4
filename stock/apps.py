"""Django's entry to the app."""

from django.apps import AppConfig


class StockConfig(AppConfig):
    name = "stock"
