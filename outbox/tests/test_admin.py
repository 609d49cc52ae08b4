"""The admin's pages of this app: everything is to be seen, and nothing is changed but by the acts on dead letters."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.urls import reverse
from django.utils import timezone

from outbox import publish
from outbox.admin import events
from outbox.admin.events import made_at
from outbox.admin.pages import link
from outbox.consuming.applying import Applier
from outbox.events import encode
from outbox.kafka import topic_name
from outbox.models import ConsumerGroup, FailedMessage, InboxEvent, OutboxEvent, ParkedEvent
from outbox.record import Record
from outbox.tests.plans import fill_tables, plans
from outbox.tests.records import garbage, record_of
from outbox.tests.sample import THING, ThingClosed, ThingCounted

EXAMPLE = ThingCounted(thing="a", number=1)
LISTS = ["outboxevent", "failedmessage", "parkedevent", "consumergroup"]


@pytest.fixture
def letters(db):
    """A dead letter of every kind of garbage, and one of a handler that raised."""
    applier = Applier("sample", pause=lambda seconds: None)
    for offset, (key, value, headers) in enumerate(garbage(EXAMPLE).values()):
        applier.apply([Record("thing-events", 0, offset, key, value, headers)])
    applier.apply([record_of(ThingCounted(thing="<script>", number=5000), offset=1000)])
    applier.apply([record_of(EXAMPLE, offset=1001)])
    return FailedMessage.objects.all()


@pytest.fixture
def page(admin_client):
    """Return a function that opens a page of this app by its name, and returns its text."""

    def read(name, *args, code=200, **query):
        answer = admin_client.get(reverse(f"admin:outbox_{name}", args=args), query)
        assert answer.status_code == code
        return answer.content.decode()

    return read


def groups_in(text):
    """Return the rows of the consumer groups on an event's page, by the group's name."""
    rows = text.partition("<h2>Consumer groups")[2].split("<tr><td>")[1:]
    return {row.partition("<")[0]: row for row in rows}


def told(text, row):
    """Return what an event's page tells in a row of its first table."""
    return text.partition(f'<th scope="row">{row}</th><td>')[2].partition("</td>")[0]


def ids(text):
    """Return the ids of the letters that a list shows."""
    return [pk for pk in FailedMessage.objects.values_list("pk", flat=True) if f"/failedmessage/{pk}/change/" in text]


def test_every_kind_of_dead_letter_has_a_page_and_a_history(page, letters):
    for letter in letters:
        page("failedmessage_change", letter.pk)
        page("failedmessage_history", letter.pk)


def test_a_dead_letter_shows_error_key_value_and_headers(page, letters):
    letter = letters.get(offset=1000)

    text = page("failedmessage_change", letter.pk)

    assert "IntegrityError" in text
    assert "Traceback" in text
    assert "&quot;number&quot;: 5000" in text
    assert "event-id" in text
    assert str(letter.event_id) in text
    assert "&lt;script&gt;" in text
    assert "<script>" not in text.partition("field-readable_key")[2].partition("</div>")[0]


def test_a_value_is_laid_out_and_nothing_else_about_it_is_changed(page, letters):
    value = b'{"data":{"amount":1.10,"amount":1e400,"name":"\\u00e9"}}'
    letters.filter(offset=1000).update(value=value)

    text = page("failedmessage_change", letters.get(offset=1000).pk)

    assert (
        "&quot;amount&quot;: 1.10,\n    &quot;amount&quot;: 1e400,\n    &quot;name&quot;: &quot;\\u00e9&quot;" in text
    )


def test_a_value_of_megabytes_is_cut_and_cannot_be_edited(page, letters):
    letters.filter(offset=1000).update(value=b'{"x":"' + b"x" * 3_000_000 + b'"}')

    text = page("failedmessage_change", letters.get(offset=1000).pk)

    assert "3,000,008 bytes in all" in text
    assert "too large to be edited here" in text
    assert len(text) < 100_000


@pytest.mark.parametrize("model", LISTS)
def test_a_list_is_searched_with_as_many_queries_for_many_rows_as_for_one(
    admin_client, letters, model, django_assert_max_num_queries
):
    publish(*(ThingCounted(thing="a", number=n) for n in range(30)))
    with django_assert_max_num_queries(12):
        page = admin_client.get(reverse(f"admin:outbox_{model}_changelist"), {"q": str(EXAMPLE.event_id)})

    assert page.status_code == 200


@pytest.mark.parametrize("model", LISTS)
def test_nothing_can_be_added_changed_or_deleted(admin_client, letters, model):
    publish(EXAMPLE)
    ParkedEvent.objects.create(**parked(EXAMPLE, offset=5))
    rows = {"outboxevent": OutboxEvent, "failedmessage": FailedMessage, "parkedevent": ParkedEvent}
    row = rows.get(model, ConsumerGroup).objects.all()[0]

    assert admin_client.get(reverse(f"admin:outbox_{model}_add")).status_code == 403
    assert admin_client.post(reverse(f"admin:outbox_{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    answer = admin_client.post(
        reverse(f"admin:outbox_{model}_change", args=[row.pk]), {"created_at": datetime.now(UTC)}
    )
    assert answer.status_code == 403


def parked(event, *, offset):
    return {
        "consumer_group": "sample",
        "topic": "thing-events",
        "partition": 0,
        "offset": offset,
        "key": event.key.encode(),
        "value": encode(event),
        "event_id": event.event_id,
        "event_type": event.type,
        "parked_at": timezone.now(),
    }


def test_a_dead_letter_is_found_by_what_its_error_says(page, letters):
    assert "3 failed messages" in page("failedmessage_changelist", q="the value is null")


def test_dead_letters_are_filtered_by_status_group_type_and_error(page, letters):
    raised = letters.get(offset=1000)

    assert ids(page("failedmessage_changelist", status="PENDING")) == [raised.pk]
    assert raised.pk not in ids(page("failedmessage_changelist", status="FAILED"))
    assert len(ids(page("failedmessage_changelist", status="open"))) == letters.count()
    assert ids(page("failedmessage_changelist", error_class="IntegrityError")) == [raised.pk]
    assert raised.pk in ids(page("failedmessage_changelist", event_type="thing.counted", consumer_group="sample"))
    assert ids(page("failedmessage_changelist", consumer_group="another")) == []


def test_dead_letters_are_filtered_by_age(page, letters):
    raised = letters.get(offset=1000)
    letters.filter(pk=raised.pk).update(created_at=timezone.now() - timedelta(days=2))

    assert ids(page("failedmessage_changelist", age="day")) == [raised.pk]
    assert ids(page("failedmessage_changelist", age="week")) == []
    assert raised.pk not in ids(page("failedmessage_changelist", age="hour"))
    assert raised.pk not in ids(page("failedmessage_changelist", age="today"))


def test_failures_are_grouped_by_cause_and_each_cause_lists_its_letters(page, letters, admin_client):
    Applier("sample", pause=lambda seconds: None).apply([record_of(ThingCounted(thing="b", number=7000), offset=1002)])
    alike = [letters.get(offset=1000).pk, letters.get(offset=1002).pk]

    causes = admin_client.get(reverse("admin:outbox_failedmessage_causes")).context["causes"]

    [cause] = [cause for cause in causes if cause["error_class"] == "IntegrityError"]
    assert cause["letters"] == 2
    assert sum(cause["letters"] for cause in causes) == letters.count()
    assert sorted(ids(admin_client.get(cause["url"]).content.decode())) == alike
    assert "1 more like this" in page("failedmessage_change", alike[0])


def test_what_no_text_can_hold_is_refused_in_every_query(admin_client, letters):
    for model in LISTS:
        url = reverse(f"admin:outbox_{model}_changelist")
        for name in ["q", "consumer_group", "fingerprint", "status", "age", "event_type", "newest"]:
            answer = admin_client.get(url, {name: "\0"}, follow=True)
            assert answer.status_code == 200
        assert admin_client.get(f"{url}%00/change/").status_code in {302, 404}
        assert admin_client.get(f"{url}99999999999999999999/change/").status_code in {302, 404}


def test_an_events_page_tells_where_it_is(page, letters):
    published = ThingCounted(thing="a", number=2)
    publish(published)
    assert "Waits in the outbox" in page("outboxevent_event", id=str(published.event_id))

    text = page("outboxevent_event", id=f" {EXAMPLE.event_id} ")
    entry = InboxEvent.objects.get(event_id=EXAMPLE.event_id)
    assert "Applied" in text
    assert f"{entry.topic} / {entry.partition} / {entry.offset}" in text

    raised = letters.get(offset=1000)
    assert ids(page("outboxevent_event", id=str(raised.event_id))) == [raised.pk]

    later = ThingCounted(thing="<script>", number=3)
    Applier("sample", pause=lambda seconds: None).apply([record_of(later, offset=1003)])
    row = ParkedEvent.objects.create(**parked(later, offset=1003))
    assert f"/parkedevent/{row.pk}/change/" in page("outboxevent_event", id=str(later.event_id))


def test_an_events_page_tells_when_it_was_made_where_it_is_in_kafka_and_what_each_group_made_of_it(page, db):
    event = ThingCounted(thing="a", number=1)
    publish(event)
    text = page("outboxevent_event", id=str(event.event_id))
    assert f"{made_at(event.event_id):%Y-%m-%d %H:%M:%S.%f} UTC" in told(text, "Made at")
    assert told(text, "Published at") == "Not yet"
    assert "Waits in the outbox" in text
    assert "Not yet" in groups_in(text)["sample"]

    OutboxEvent.objects.all().delete()
    Applier("sample", pause=lambda seconds: None).apply([record_of(event, offset=7)])
    text = page("outboxevent_event", id=str(event.event_id))
    assert "Waits in the outbox" not in text
    assert "thing-events / 0 / 7" in told(text, "Kafka")
    assert "Applied" in groups_in(text)["sample"]
    assert "thing-events / 0 / 7" in groups_in(text)["sample"]


@pytest.fixture
def written(kafka):
    """Return a function that writes an event to Kafka, lets a group apply it, and returns the message."""

    def write(event):
        headers = [("event-id", str(event.event_id)), ("event-type", event.type)]
        kafka.put(THING, (event.key, encode(event), headers))
        message = kafka.records(THING)[-1]
        Applier("sample", pause=lambda seconds: None).apply([Record.from_message(message)])
        return message

    return write


def at(message):
    return f"{datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC):%Y-%m-%d %H:%M:%S.%f} UTC"


def test_an_events_page_tells_when_the_relay_sent_it(page, written):
    event = ThingCounted(thing="a", number=1)
    message = written(event)
    found = told(page("outboxevent_event", id=str(event.event_id)), "Published at")
    assert at(message) in found
    assert "the relay's clock" in found


def test_an_events_page_tells_when_kafka_took_it_where_kafka_says_so(page, kafka, written):
    kafka.configure(THING, "message.timestamp.type", "LogAppendTime")
    event = ThingCounted(thing="a", number=1)
    message = written(event)
    found = told(page("outboxevent_event", id=str(event.event_id)), "Published at")
    assert at(message) in found
    assert "the broker's clock" in found


def test_of_an_event_whose_record_is_gone_nobody_knows_when_it_was_published(page, written):
    partition = written(ThingCounted(thing="a", number=1)).partition()
    # Where another record stands, none yet, and where there is no partition.
    for place in [(partition, 0), (partition, 1), (partition, 1_000), (1_000, 0)]:
        event = ThingCounted(thing="a", number=2)
        record = replace(record_of(event), topic=topic_name(THING), partition=place[0], offset=place[1])
        Applier("sample", pause=lambda seconds: None).apply([record])
        text = page("outboxevent_event", id=str(event.event_id))
        assert "no longer in Kafka" in told(text, "Published at")


def test_without_kafka_an_events_page_tells_the_rest(page, db, settings):
    settings.OUTBOX = {**settings.OUTBOX, "KAFKA": {"bootstrap.servers": "127.0.0.1:1"}}
    event = ThingCounted(thing="a", number=1)
    Applier("sample", pause=lambda seconds: None).apply([record_of(event, offset=7)])
    text = page("outboxevent_event", id=str(event.event_id))
    assert "Kafka does not answer" in told(text, "Published at")
    assert "thing-events / 0 / 7" in told(text, "Kafka")


def test_an_event_whose_id_tells_no_time_has_a_page(page, db):
    for event_id in ["ffffffff-ffff-7fff-bfff-ffffffffffff", str(uuid4())]:
        ParkedEvent.objects.all().delete()
        ParkedEvent.objects.create(**{**parked(EXAMPLE, offset=5), "event_id": event_id})
        text = page("outboxevent_event", id=event_id)
        assert "Parked" in text
        assert "Made at" not in text


def test_an_event_that_kafka_refused_is_not_said_to_be_there(page, db):
    event = ThingCounted(thing="a", number=1)
    FailedMessage.objects.create(
        consumer_group="relay",
        topic="thing-events",
        partition=-1,
        offset=1,
        key=event.key.encode(),
        value=encode(event),
        event_id=event.event_id,
        event_type=event.type,
        error_class="MessageSizeTooLarge",
        error="MessageSizeTooLarge",
        status="FAILED",
        created_at=timezone.now(),
    )
    text = page("outboxevent_event", id=str(event.event_id))
    assert "MessageSizeTooLarge" in groups_in(text)["relay"]
    assert "Kafka</th>" not in text


def test_an_event_older_than_what_the_inbox_remembers_is_not_said_to_wait_for_a_group(page, db, settings):
    event = ThingCounted(thing="a", number=1)
    publish(event)
    settings.OUTBOX = {**settings.OUTBOX, "INBOX_RETENTION_DAYS": 0}
    assert groups_in(page("outboxevent_event", id=str(event.event_id))) == {}


def test_other_apps_say_what_an_event_belongs_to(page, db, monkeypatch):
    known = uuid4()
    monkeypatch.setattr(events, "_about_event", [])

    @events.tells_of_event
    def things(request, event_id):
        return [link("/things/1", "Thing <1>")] if event_id == known else []

    text = page("outboxevent_event", id=str(known))
    assert '<a href="/things/1">Thing &lt;1&gt;</a>' in text
    assert "it left the outbox" in text
    assert "/things/1" not in page("outboxevent_event", code=404, id=str(uuid4()))


def test_an_event_is_found_by_indexes(page, db):
    fill_tables()
    event_id = str(EXAMPLE.event_id)
    publish(EXAMPLE)

    asked = plans(lambda: page("outboxevent_event", id=event_id), OutboxEvent, InboxEvent, FailedMessage, ParkedEvent)

    assert "outbox_event_id" in asked[OutboxEvent]
    assert "failed_message_event" in asked[FailedMessage]
    assert "parked_event_event" in asked[ParkedEvent]
    assert all("Index Cond: (event_id" in plan for plan in asked.values())
    assert "Seq Scan" not in "".join(asked.values())


def test_what_waits_behind_a_letter_is_found_by_indexes(page, db):
    fill_tables()
    for offset, number in enumerate([5000, 1]):
        event = ThingCounted(thing="a", number=number)
        Applier("sample-ordered", pause=lambda seconds: None).apply([record_of(event, offset=offset)])

    letter = FailedMessage.objects.get(consumer_group="sample-ordered").pk
    asked = plans(lambda: page("failedmessage_change", letter), FailedMessage, ParkedEvent)

    assert "failed_message_parks" in asked[FailedMessage]
    assert "parked_event_behind" in asked[ParkedEvent]
    assert "Seq Scan" not in "".join(asked.values())


@pytest.mark.parametrize(
    ("model", "index"),
    [(OutboxEvent, "outbox_event_id"), (FailedMessage, "failed_message_event"), (ParkedEvent, "parked_event_event")],
)
def test_a_list_is_searched_for_an_event_by_an_index(page, db, model, index):
    fill_tables()
    sought = str(model.objects.earliest("id").event_id)
    asked = plans(lambda: page(f"{model._meta.model_name}_changelist", q=sought), model)[model]
    assert index in asked
    assert "upper(" not in asked


@pytest.mark.parametrize("model", ["outboxevent", "parkedevent"])
def test_a_list_offers_to_filter_by_what_the_code_declares(admin_client, db, model):
    rows = {"outboxevent": OutboxEvent, "parkedevent": ParkedEvent}[model].objects
    closed = ThingClosed(thing="a")
    publish(EXAMPLE, closed)
    for offset, event in enumerate([EXAMPLE, closed]):
        ParkedEvent.objects.create(**parked(event, offset=offset))
    page = admin_client.get(reverse(f"admin:outbox_{model}_changelist"), {"event_type": "thing.counted"})
    assert list(page.context["cl"].result_list) == list(rows.filter(event_type="thing.counted"))
    assert "event_type=thing.ignored" in page.content.decode()


def test_an_event_that_nobody_knows_and_an_id_that_is_none_are_told_apart(page, db):
    assert "Nothing is known" in page("outboxevent_event", code=404, id=str(uuid4()))
    for nonsense in ["nonsense", "\0", "<script>", "7" * 5_000]:
        assert "That is no event id" in page("outboxevent_event", code=400, id=nonsense)
    assert 'name="id"' in page("outboxevent_event")


def test_an_event_is_searched_from_the_apps_page(admin_client, db):
    text = admin_client.get(reverse("admin:app_list", args=["outbox"])).content.decode()

    assert reverse("admin:outbox_outboxevent_event") in text
    assert reverse("admin:outbox_failedmessage_causes") in text


def test_groups_show_their_halt_and_what_waits_in_them(page, letters):
    ConsumerGroup.objects.update_or_create(
        name="sample", defaults={"halted_at": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), "failures_in_a_row": 100}
    )
    ParkedEvent.objects.create(**parked(EXAMPLE, offset=5))

    text = page("consumergroup_changelist")

    assert "halted since 2030-01-02 03:04:05 UTC" in text
    assert f">{letters.count()}</a>" in text.partition("field-open_letters")[2].partition("</td>")[0]
    assert ">1</a>" in text.partition("field-parked_events")[2].partition("</td>")[0]
    page("consumergroup_change", "sample")
