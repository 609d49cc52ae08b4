"""Django's entry to the app."""

from django.apps import AppConfig


class CouponsConfig(AppConfig):
    name = "coupons"

    def ready(self) -> None:
        from coupons import checks  # noqa: F401  (registers them)
