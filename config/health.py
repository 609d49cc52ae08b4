"""What a load balancer asks: does this process live, and can it take requests?"""

from django.db import InterfaceError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse


def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200: the process takes requests. Asks nobody else."""
    return answer("ok")


def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 if PostgreSQL answers and has all migrations, else 503 and why.

    Kafka and Redis are not asked: without them the web can still take orders.
    """
    try:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except (OperationalError, InterfaceError):
        return answer("PostgreSQL does not answer", status=503)
    if missing:
        names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in missing)
        return answer(f"migrations are missing: {names}", status=503)
    return answer("ok")


def answer(text: str, *, status: int = 200) -> HttpResponse:
    return HttpResponse(
        text + "\n", status=status, content_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"}
    )
