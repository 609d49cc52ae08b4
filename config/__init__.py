"""The project: settings, URLs, and what every API answer has in common."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
