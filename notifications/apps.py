"""Django's entry to the app."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "notifications"
