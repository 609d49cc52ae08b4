"""What Celery does on time."""

import os
import subprocess
import sys

from django.conf import settings

from config import celery_app


def test_knows_every_task_that_is_scheduled():
    celery_app.loader.import_default_modules()
    assert {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()} <= celery_app.tasks.keys()


def test_no_process_that_is_busy_keeps_a_task_that_another_could_do():
    assert celery_app.conf.worker_prefetch_multiplier == 1


def test_installations_that_share_a_redis_have_queues_of_their_own():
    ask = "from config import celery_app; print(celery_app.conf.task_default_queue)"
    told = subprocess.run(
        [sys.executable, "-c", ask],
        env={**os.environ, "KAFKA_PREFIX": "blue."},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "blue.celery\n"
