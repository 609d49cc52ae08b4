"""Django's entry to the app."""

from django.apps import AppConfig


class CouponsConfig(AppConfig):
    name = "coupons"
