"""The Celery application. Run with: celery -A config worker, and celery -A config beat."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("orderbox")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.task(name="config.apply_retention")
def apply_retention() -> None:
    """Forget what outbox need not remember any more."""
    from outbox import retention

    retention.apply()
