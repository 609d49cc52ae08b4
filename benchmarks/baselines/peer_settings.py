"""The settings of a project that uses django-outbox-pattern and nothing else."""

import environ

DATABASES = {"default": environ.Env().db("DATABASE_URL")}
INSTALLED_APPS = ["django_outbox_pattern"]
USE_TZ = True
DJANGO_OUTBOX_PATTERN = {
    "DEFAULT_CONNECTION_CLASS": "benchmarks.baselines.peer.Sink",
    "DEFAULT_PRODUCER_WAITING_TIME": 0,
}
