"""The admin's page of how things stand: as PostgreSQL and Kafka know it, and without Kafka too."""

import re
import socket

import pytest
from django.contrib.auth.models import Permission
from django.db import connection, transaction
from django.urls import reverse
from django.utils.html import strip_tags

from outbox import publish
from outbox.admin import standing
from outbox.events import encode
from outbox.kafka import topic_name
from outbox.models import ConsumerGroup, FailedMessage, ParkedEvent
from outbox.tests.processes import run
from outbox.tests.records import headers_of
from outbox.tests.sample import THING, ThingClosed, ThingCounted

PAGE = "admin:outbox_consumergroup_standing"
LONG_AGO = "2026-01-02T03:04:05Z"
NO_KAFKA = "Kafka does not answer"


@pytest.fixture
def page(admin_client, monkeypatch):
    """Return a function that opens the page, and returns its text. It waits for Kafka however busy the machine is."""
    monkeypatch.setattr(standing, "STEP_SECONDS", 30)
    monkeypatch.setattr(standing, "WAIT_SECONDS", 60)

    def read() -> str:
        answer = admin_client.get(reverse(PAGE))
        assert answer.status_code == 200
        return answer.content.decode()

    return read


@pytest.fixture
def without_kafka(settings, db):
    """A Kafka that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        servers = "{}:{}".format(*silent.getsockname())
        settings.OUTBOX = {**settings.OUTBOX, "KAFKA": {"bootstrap.servers": servers}}
        yield


def table(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without the line that heads it."""
    rows = text.partition(f"<h2>{heading}</h2>")[2].partition("</table>")[0].partition("</thead>")[2]
    return [[strip_tags(cell) for cell in re.findall("<td>(.*?)</td>", row)] for row in rows.split("</tr>")[:-1]]


def row_of(group: str, text: str) -> list[str]:
    """Return what the page tells of a group, after its name."""
    [row] = [cells for cells in table(text, "Consumer groups") if cells[0] == group]
    return row[1:]


def make_trouble() -> None:
    """Halt the group sample, and give it open letters and parked events."""
    ConsumerGroup.objects.create(name="sample", halted_at=LONG_AGO, failures_in_a_row=100)
    place = {"consumer_group": "sample", "topic": "t", "partition": 0, "event_type": "thing.counted"}
    for offset, status in enumerate(["PENDING", "FAILED", "FAILED", "PROCESSED", "DISCARDED"]):
        FailedMessage.objects.create(
            **place, offset=offset, error_class="E", error="", status=status, created_at=LONG_AGO, processed_at=LONG_AGO
        )
    for offset, key in enumerate([b"a", b"a", b"b"]):
        ParkedEvent.objects.create(**place, offset=offset, key=key, value=b"", event_id="0" * 32, parked_at=LONG_AGO)


def test_tells_how_far_a_group_is_behind_in_each_partition(kafka, page):
    events = [ThingCounted(thing=f"t{number}", number=number) for number in range(20)]
    kafka.put(THING, *((event.key.encode(), encode(event), headers_of(event)) for event in events))
    run("run_consumer", "sample", "--until-idle")

    text = page()

    assert NO_KAFKA not in text
    assert row_of("sample", text) == ["empty", "0", "no", "0", "0", "0", "0", "0", "0", "0.0"]
    state, members, *_, records, seconds = row_of("sample-ordered", text)
    assert (state, members, records) == ("dead", "0", "20")
    assert float(seconds) > 0
    read, unread = table(text, "sample"), table(text, "sample-ordered")
    places = [[topic_name(THING), str(partition)] for partition in range(THING.partitions)]
    assert [cells[:2] for cells in read] == [cells[:2] for cells in unread] == places
    assert sum(int(end) for _, _, _, end, *_ in read) == 20
    assert all((committed, records) == (end, "0") for _, _, committed, end, records, *_ in read if end != "0")
    assert all((committed, records) == ("-", end) for _, _, committed, end, records, *_ in unread)


def test_tells_what_is_wrong_with_a_group(prefix, db, page):
    make_trouble()

    text = page()

    assert row_of("sample", text)[2:8] == ["since 2026-01-02 03:04:05 UTC", "100", "1", "2", "3", "2"]
    assert row_of("shown", text)[2:8] == ["no", "0", "0", "0", "0", "0"]
    for model, query in [
        ("failedmessage", {"consumer_group": "sample", "status": "FAILED"}),
        ("parkedevent", {"consumer_group": "sample"}),
    ]:
        link = reverse(f"admin:outbox_{model}_changelist", query=query).replace("&", "&amp;")
        assert f'href="{link}"' in text


def test_says_where_the_topics_of_a_group_are_missing(prefix, db, page):
    assert "create_topics" in page().partition("<h2>sample</h2>")[2].partition("</div>")[0]


def test_sounds_the_alarm_when_an_event_waits_for_too_long_to_be_sent(prefix, db, page, settings):
    settings.OUTBOX = {**settings.OUTBOX, "ALARM_SECONDS": 60}
    assert table(page(), "Outbox") == [["0", "0.0", "no", "0", "0"]]
    with transaction.atomic():
        publish(ThingClosed(thing="a"), ThingClosed(thing="b"))
    assert "does the relay run?" not in page()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE outbox_outboxevent SET created_at = now() - interval '1 day'")

    text = page()

    [[waiting, oldest, alarm, _, _]] = table(text, "Outbox")
    assert (waiting, alarm) == ("2", "yes")
    assert float(oldest) >= 86_400
    assert "An event waits for longer than 60 s to be sent: does the relay run?" in text


def test_tells_what_postgresql_knows_while_kafka_is_silent(without_kafka, page, monkeypatch):
    monkeypatch.setattr(standing, "WAIT_SECONDS", 0.5)
    make_trouble()

    text = page()

    assert text.count(NO_KAFKA) == 1
    assert row_of("sample", text) == [
        *("?", "?", "since 2026-01-02 03:04:05 UTC", "100", "1", "2", "3", "2", "?", "?")
    ]  # fmt: skip
    assert table(text, "Outbox") == [["0", "0.0", "no", "0", "0"]]


def test_is_for_those_who_may_view_the_groups(prefix, db, client, django_user_model):
    user = django_user_model.objects.create_user("viewer", "viewer@example.com", is_staff=True)
    client.force_login(user)
    assert client.get(reverse(PAGE)).status_code == 403

    user.user_permissions.add(Permission.objects.get(codename="view_consumergroup"))

    assert client.get(reverse(PAGE)).status_code == 200
    app, groups = reverse("admin:app_list", args=["outbox"]), reverse("admin:outbox_consumergroup_changelist")
    for path in [app, groups]:
        assert f'href="{reverse(PAGE)}"' in client.get(path).content.decode()


def test_sends_others_to_log_in(db, client):
    assert client.get(reverse(PAGE)).status_code == 302
