"""What Celery does on time."""

import pytest
from django.conf import settings

from config import celery_app
from config.celery import apply_retention
from outbox.models import FailedMessage


def test_knows_every_task_that_is_scheduled():
    celery_app.loader.import_default_modules()
    assert {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()} <= celery_app.tasks.keys()


@pytest.mark.django_db(transaction=True)
def test_applies_the_retention():
    FailedMessage.objects.create(
        consumer_group="stock",
        topic="t",
        partition=0,
        offset=0,
        error_class="E",
        error="",
        status="PROCESSED",
        created_at="2020-01-01T00:00:00Z",
        processed_at="2020-01-01T00:00:00Z",
    )

    apply_retention()

    assert not FailedMessage.objects.exists()
