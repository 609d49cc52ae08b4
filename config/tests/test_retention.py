"""What config forgets each hour."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.utils import timezone
from knox.models import AuthToken

from config import retention
from config.celery import apply_retention
from config.idempotency import RETENTION
from config.models import IdempotencyKey
from notifications.models import Notification
from outbox.models import FailedMessage

NOW = timezone.now()


def keys(count, created_at):
    IdempotencyKey.objects.bulk_create(
        IdempotencyKey(scope=uuid4(), fingerprint="", status=201, headers={}, body=b"{}", created_at=created_at)
        for _ in range(count)
    )


@pytest.mark.django_db
def test_deletes_answers_that_are_not_replayed_any_more():
    young = NOW - RETENTION + timedelta(seconds=1)
    keys(retention.CHUNK + 1, NOW - RETENTION)
    keys(1, young)
    retention.apply(now=NOW)
    assert [row.created_at for row in IdempotencyKey.objects.all()] == [young]


@pytest.mark.django_db
def test_deletes_tokens_that_have_expired(customer):
    AuthToken.objects.create(user=customer, expiry=timedelta(hours=1))
    kept, _ = AuthToken.objects.create(user=customer, expiry=timedelta(hours=3))
    retention.apply(now=timezone.now() + timedelta(hours=2))
    assert list(AuthToken.objects.all()) == [kept]


@pytest.mark.django_db
def test_deletes_sessions_that_have_expired():
    ends = {"old": NOW - timedelta(seconds=1), "young": NOW + timedelta(seconds=1)}
    Session.objects.bulk_create(Session(session_key=key, expire_date=end) for key, end in ends.items())
    retention.apply(now=NOW)
    assert [session.pk for session in Session.objects.all()] == ["young"]


@pytest.mark.django_db
def test_deletes_what_people_were_told_long_ago(customer, settings):
    settings.NOTIFICATION_RETENTION_DAYS = 90

    def told(days_ago, **fields):
        made_at = NOW - timedelta(days=days_ago)
        row_id = UUID(int=(int(made_at.timestamp() * 1000) << 80) + uuid4().int % 2**64)
        sent_at = made_at if fields["status"] == "SENT" else None
        return Notification.objects.create(
            id=row_id, user=customer, kind="WELCOME", event_id=uuid4(), sent_at=sent_at, **fields
        )

    old = [
        told(91, channel="EMAIL", status="SENT"),
        told(91, channel="TELEGRAM", status="SENT"),
        told(91, channel="IN_APP", status="SENT"),
    ]
    kept = [
        told(91, channel="EMAIL", status="FAILED"),
        told(91, channel="EMAIL", status="PENDING", due_at=NOW),
        told(89, channel="EMAIL", status="SENT"),
        told(89, channel="IN_APP", status="SENT", read_at=NOW),
    ]
    assert retention.apply(now=NOW)["notifications"] == len(old)
    assert set(Notification.objects.all()) == set(kept)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("forget", [apply_retention, lambda: call_command("apply_retention")], ids=["task", "command"])
def test_is_one_with_the_retention_of_the_outbox(forget):
    """By Celery and by hand."""
    keys(1, NOW - RETENTION)
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
    forget()
    assert not IdempotencyKey.objects.exists()
    assert not FailedMessage.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_deletes_all_of_them_once_when_two_do_it(at_once):
    keys(10, NOW - RETENTION)
    at_once(*[lambda: retention.apply(now=NOW)] * 3)
    retention.apply(now=NOW)
    assert not IdempotencyKey.objects.exists()
