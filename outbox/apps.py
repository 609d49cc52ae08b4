"""Django's entry to the app: finds each app's events and consumers when the project starts."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class OutboxConfig(AppConfig):
    name = "outbox"
    verbose_name = "Outbox"

    def ready(self) -> None:
        from outbox import checks  # noqa: F401  (registers system checks)
        from outbox.contracts import event_checks  # noqa: F401  (likewise)

        autodiscover_modules("events", "consumers")
