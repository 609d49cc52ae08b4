"""What a load balancer is told."""

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from config.tests.test_problems import postgres_away  # noqa: F401  (a fixture)


def test_lives_without_asking_anybody(anybody):
    # Without the mark django_db, a query would raise.
    assert anybody.get("/healthz").status_code == 200


@pytest.mark.django_db
def test_is_ready(anybody):
    assert anybody.get("/readyz").status_code == 200


@pytest.mark.usefixtures("postgres_away")
def test_is_not_ready_while_postgresql_is_away(anybody):
    response = anybody.get("/readyz")
    assert (response.status_code, response.content) == (503, b"PostgreSQL does not answer\n")
    assert anybody.get("/healthz").status_code == 200


@pytest.mark.django_db
def test_is_not_ready_while_a_migration_is_missing(anybody):
    MigrationRecorder(connection).record_unapplied("notifications", "0003_coupons")
    response = anybody.get("/readyz")
    assert (response.status_code, response.content) == (503, b"migrations are missing: notifications.0003_coupons\n")
