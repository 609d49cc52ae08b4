"""What gunicorn believes and bears, and its hooks.

Where METRICS_PORT is set, its first process serves there what all of its workers have counted. gunicorn reads this file
by itself in the folder where it is started.
"""

import os
import shutil
import tempfile
from contextlib import ExitStack
from typing import Any

from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# By itself gunicorn believes whoever is on the same machine, and so every client of a proxy there that hands these on.
# Whom to believe is the settings' to say, by HTTPS_PROXY_HEADER.
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""
# The most that it allows, in bytes. What is longer gets its own answer, and not ours.
limit_request_line = 8190

# Before prometheus_client is imported. A reload reads this file again, and keeps the folder.
if settings.METRICS_PORT and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="orderbox-metrics-")

serving = ExitStack()


def on_starting(server: object) -> None:
    """Serve the metrics, or end at once where the port is taken."""
    if settings.METRICS_PORT:
        from django.core.management.base import CommandError

        from outbox.watching.health import serve

        try:
            serving.enter_context(serve(settings.METRICS_PORT, hung=lambda: None))
        except CommandError as error:
            shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
            raise SystemExit(f"METRICS_PORT: {error}") from error


def child_exit(server: object, worker: Any) -> None:
    """Take a worker that ended out of the gauges."""
    if settings.METRICS_PORT:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)


def on_exit(server: object) -> None:
    if settings.METRICS_PORT:
        serving.close()
        shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
