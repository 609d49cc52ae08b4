"""The Celery application. Run with: celery -A config worker, and celery -A config beat."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("orderbox")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.task(name="config.apply_retention")
def apply_retention() -> None:
    """Forget what need not be remembered any more."""
    import outbox.retention
    from config import retention

    retention.apply()
    outbox.retention.apply()
