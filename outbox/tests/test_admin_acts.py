"""What a person does to dead letters and groups in the admin: by permission, logged, and refused in plain words."""

import json
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from outbox.admin import acts
from outbox.consuming.applying import Applier
from outbox.models import ConsumerGroup, FailedMessage, InboxEvent, OutboxEvent, ParkedEvent
from outbox.tests import sample
from outbox.tests.records import record_of
from outbox.tests.sample import ThingClosed, ThingCounted

LIST = "admin:outbox_failedmessage_changelist"
BUTTONS = ["dry_run", "dry_run_edited", "retry", "edit", "discard"]


@pytest.fixture
def applier(db):
    return Applier("sample-ordered", pause=lambda seconds: None)


@pytest.fixture
def bury(applier):
    """Return a function that makes a dead letter of an event that the handler cannot take."""

    def make(thing="a"):
        offset = FailedMessage.objects.count()
        applier.apply([record_of(ThingCounted(thing=thing, number=5000), offset=offset, partition=1)])
        return FailedMessage.objects.get(partition=1, offset=offset)

    return make


@pytest.fixture
def letter(bury):
    return bury()


@pytest.fixture
def press(admin_client):
    """Return a function that presses a button on a letter's page, and returns the page that follows."""

    def post(letter, button, **fields):
        url = reverse("admin:outbox_failedmessage_act", args=[letter.pk])
        answer = admin_client.post(url, {"act": button, **fields}, follow=True)
        assert answer.status_code == 200
        return answer.content.decode()

    return post


@pytest.fixture
def choose(admin_client):
    """Return a function that does an action to letters of the list, and returns the page that follows."""

    def post(action, letters, query=None, **fields):
        answer = admin_client.post(
            reverse(LIST, query=query),
            {"action": action, "index": "0", "_selected_action": [letter.pk for letter in letters], **fields},
            follow=True,
        )
        assert answer.status_code == 200
        return answer.content.decode()

    return post


@pytest.fixture
def somebody(django_user_model):
    """Return a function that makes a client of a person with these permissions of the app, and no others."""

    def make(*codenames):
        user = django_user_model.objects.create_user(f"user{uuid4()}", f"{uuid4()}@example.com", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(content_type__app_label="outbox", codename__in=codenames))
        client = Client()
        client.force_login(user)
        return client

    return make


def edited(letter, **changes):
    """Return the text of an editor in which fields of the data were changed."""
    envelope = json.loads(bytes(letter.value))
    return json.dumps({**envelope, "data": {**envelope["data"], **changes}}, indent=4)


def status(letter):
    return FailedMessage.objects.values_list("status", flat=True).get(pk=letter.pk)


def logged(letter):
    """Return what the log says of a letter, oldest first."""
    entries = LogEntry.objects.filter(content_type__model="failedmessage", object_id=letter.pk).order_by("id")
    return [entry.change_message for entry in entries]


def test_a_letter_that_was_mended_is_retried(press, letter, effects):
    sample.mend()

    text = press(letter, "retry")

    assert status(letter) == "PROCESSED"
    assert effects() == [("a", 5000)]
    assert logged(letter) == ["Retried: applied."]
    assert "Retried: applied." in text
    assert 'name="act"' not in text


def test_a_letter_that_fails_again_stays_open_and_says_so(press, letter, effects):
    text = press(letter, "retry")

    assert status(letter) == "PENDING"
    assert effects() == []
    [line] = logged(letter)
    assert line.startswith("Retried: failed again: django.db.utils.IntegrityError: new row")
    assert "failed again" in text


def test_an_edited_letter_is_applied_and_the_log_tells_who_changed_what(press, letter, effects, admin_user):
    press(letter, "edit", value=edited(letter, number=7))

    assert status(letter) == "PROCESSED"
    assert effects() == [("a", 7)]
    [line] = logged(letter)
    before, after = line.partition("Before: ")[2].split(" After: ")
    assert line.startswith("Edited and retried: applied.")
    assert '"number":5000' in before
    assert '"number":7' in after
    assert LogEntry.objects.get().user == admin_user


def test_an_editors_lines_and_spaces_do_not_get_into_the_value(press, letter):
    press(letter, "edit", value=edited(letter, number=6000).replace("\n", "\r\n"))

    letter.refresh_from_db()
    assert b"\n" not in letter.value
    assert json.loads(bytes(letter.value))["data"]["number"] == 6000


def test_a_value_that_was_shown_and_not_changed_stays_as_it_is(press, letter, admin_client):
    page = admin_client.get(reverse("admin:outbox_failedmessage_change", args=[letter.pk]))
    before = bytes(letter.value)

    press(letter, "edit", value=page.context["text"].replace("\n", "\r\n"))

    letter.refresh_from_db()
    assert bytes(letter.value) == before
    assert logged(letter)[0].endswith("Nothing was changed.")


@pytest.mark.parametrize("button", ["edit", "dry_run_edited"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "hello",
        '{"a": "\0"}',
        '{"a": "\\ud800"}',
        "[" * 50_000,
        "1" * 5_000,
        "</textarea><script>",
        "é" * 1_000,
    ],
)
def test_an_edit_that_is_no_event_is_refused_and_the_text_kept(admin_client, press, letter, button, text):
    page = press(letter, button, value=text)

    assert "errornote" in page
    assert "</textarea><script>" not in page
    assert FailedMessage.objects.get().value == letter.value
    assert logged(letter) == []
    answer = admin_client.post(
        reverse("admin:outbox_failedmessage_act", args=[letter.pk]), {"act": "edit", "value": text}
    )
    assert answer.context["text"] == text


def test_an_edit_that_makes_another_event_is_refused(press, letter):
    value = bytes(letter.value).decode()
    for text in [
        value.replace(str(letter.event_id), str(uuid4())),
        value.replace("thing.counted", "thing.closed"),
        edited(letter, thing="b"),
        edited(letter, number="many"),
    ]:
        assert "errornote" in press(letter, "edit", value=text)
    assert FailedMessage.objects.get().value == letter.value


def test_a_text_that_is_no_utf_8_or_a_lone_surrogate_breaks_nothing(admin_client, letter):
    url = reverse("admin:outbox_failedmessage_act", args=[letter.pk])
    for octets in [b"%FF%FE", b"%ED%A0%80"]:
        body = b"act=edit&value=" + octets
        answer = admin_client.post(url, body, content_type="application/x-www-form-urlencoded")
        assert answer.status_code == 200
        assert b"errornote" in answer.content


def test_a_text_larger_than_a_request_may_be_is_refused_in_plain_words(admin_client, letter):
    answer = admin_client.post(
        reverse("admin:outbox_failedmessage_act", args=[letter.pk]), {"act": "edit", "value": "x" * 1_100_000}
    )

    assert answer.status_code == 413
    assert "This text is too large" in answer.content.decode()


def test_a_dry_run_tells_what_would_come_of_it_and_leaves_nothing(press, letter, effects):
    events = OutboxEvent.objects.count()

    assert "IntegrityError" in press(letter, "dry_run").partition("Raises:")[2]
    text = press(letter, "dry_run_edited", value=edited(letter, number=7))

    outcome = text.partition("Would be applied")[2]
    assert "thing.echoed, key a" in outcome
    assert "&quot;number&quot;:7" in outcome
    assert "&quot;number&quot;: 7" in text.partition("<textarea")[2]
    assert effects() == []
    assert OutboxEvent.objects.count() == events
    assert status(letter) == "PENDING"
    assert logged(letter) == []


def test_a_discarded_letter_keeps_its_reason_and_is_never_applied(press, letter, effects):
    sample.mend()

    press(letter, "discard", reason="  a duplicate of 7 ")

    letter.refresh_from_db()
    assert (letter.status, letter.reason) == ("DISCARDED", "a duplicate of 7")
    assert logged(letter) == ["Discarded. Reason: a duplicate of 7"]
    assert InboxEvent.objects.filter(event_id=letter.event_id).exists()
    assert effects() == []


@pytest.mark.parametrize("reason", ["", "   ", "a\0b", "x" * 1_001])
def test_a_letter_is_not_discarded_without_a_reason_that_can_be_kept(press, letter, reason):
    assert "errorlist" in press(letter, "discard", reason=reason)
    assert status(letter) == "PENDING"


@pytest.mark.parametrize("button", BUTTONS)
def test_a_letter_that_somebody_else_has_solved_meanwhile_is_refused_in_plain_words(press, letter, button):
    FailedMessage.objects.update(status="PROCESSED", processed_at=timezone.now())

    text = press(letter, button, value=edited(letter, number=7), reason="because")

    assert "is processed already" in text
    assert logged(letter) == []


def test_a_letter_that_is_not_there_any_more_leads_back(admin_client, letter):
    url = reverse("admin:outbox_failedmessage_act", args=[letter.pk])
    letter.delete()

    assert admin_client.post(url, {"act": "retry"}).status_code == 302


def test_events_parked_behind_a_letter_are_shown_and_applied_after_it(press, admin_client, applier, bury, effects):
    first = bury("a")
    for offset in range(100, 103):
        applier.apply([record_of(ThingCounted(thing="a", number=offset), offset=offset)])
    page = admin_client.get(reverse("admin:outbox_failedmessage_change", args=[first.pk])).content.decode()
    parked = list(ParkedEvent.objects.all())
    assert "3 parked events behind it" in page
    assert all(str(event.event_id) in page for event in parked)
    sample.mend()

    text = press(first, "retry")

    assert effects() == [("a", 5000), ("a", 100), ("a", 101), ("a", 102)]
    assert "3 parked events after it" in text
    assert not ParkedEvent.objects.exists()


def test_a_letter_behind_another_one_links_to_it_and_is_not_retried(press, admin_client, letter):
    second = FailedMessage.objects.get()
    # As it was when it failed before the first one did: in a group that was not always ordered.
    second.pk, second.offset, second.event_id = None, 99, uuid4()
    second.save()

    page = admin_client.get(reverse("admin:outbox_failedmessage_change", args=[second.pk])).content.decode()

    assert f"letter {letter.pk}</a> of the same key" in page
    assert "waits behind" in press(second, "retry")
    assert status(second) == "PENDING"


def test_selected_letters_are_retried_and_each_is_in_the_log(choose, bury, effects):
    letters = [bury(thing) for thing in "abc"]
    sample.mend()

    text = choose("retry_letters", letters[:2])

    assert "2 done." in text
    assert [status(letter) for letter in letters] == ["PROCESSED", "PROCESSED", "PENDING"]
    assert effects() == [("a", 5000), ("b", 5000)]
    assert [logged(letter) for letter in letters] == [["Retried: applied."], ["Retried: applied."], []]


def test_of_many_letters_the_oldest_are_retried_and_the_worker_is_given_the_others(choose, bury, monkeypatch):
    monkeypatch.setattr(acts, "RETRY_LIMIT", 2)
    letters = [bury(thing) for thing in "abcd"]
    FailedMessage.objects.update(status="FAILED", next_retry_at=None)

    consent = choose("retry_letters", letters[:1], query={"status": "open"}, select_across="1")
    assert "4 open failed messages" in consent
    assert logged(letters[0]) == []
    text = choose(
        "retry_letters", letters[:1], query={"status": "open"}, select_across="1", consent="yes", newest=letters[-1].pk
    )

    assert "0 done, 2 failed again. 2 more are due now" in text
    assert [len(logged(letter)) for letter in letters] == [1, 1, 1, 1]
    assert logged(letters[3]) == ["Made due for the worker of dead letters."]
    due = FailedMessage.objects.filter(status="PENDING", next_retry_at__lte=timezone.now())
    assert sorted(due.values_list("pk", flat=True)) == [letter.pk for letter in letters[2:]]


def test_letters_that_came_after_the_question_are_left_alone(choose, bury):
    seen = bury("a")
    later = bury("b")

    choose(
        "discard_letters", [seen], select_across="1", consent="yes", newest=seen.pk, reason="all of these are broken"
    )

    assert [status(seen), status(later)] == ["DISCARDED", "PENDING"]


def test_selected_letters_are_discarded_with_a_reason(choose, bury):
    letters = [bury(thing) for thing in "ab"]

    assert "2 open failed messages" in choose("discard_letters", letters)
    assert "errorlist" in choose("discard_letters", letters, consent="yes", reason=" ")
    assert [status(letter) for letter in letters] == ["PENDING", "PENDING"]

    assert "2 done." in choose("discard_letters", letters, consent="yes", reason="a test")
    assert [status(letter) for letter in letters] == ["DISCARDED", "DISCARDED"]
    assert [logged(letter) for letter in letters] == [["Discarded. Reason: a test"]] * 2


def test_selected_letters_are_edited_by_a_patch(choose, bury, effects):
    letters = [bury(thing) for thing in "ab"]
    patch = '{"data": {"number": 7, "note": null}}'

    assert "JSON merge patch" in choose("edit_letters", letters)
    assert "Would be applied" in choose("edit_letters", letters, consent="dry_run", changes=patch)
    assert effects() == []

    assert "2 done." in choose("edit_letters", letters, consent="yes", changes=patch)
    assert effects() == [("a", 7), ("b", 7)]
    assert all("5000" in logged(letter)[0] for letter in letters)


@pytest.mark.parametrize("patch", ["", "{", "[]", "{}", "7", '"\0"', "[" * 50_000])
def test_a_patch_that_is_none_is_refused(choose, letter, patch):
    assert "errorlist" in choose("edit_letters", [letter], consent="yes", changes=patch)
    assert FailedMessage.objects.get().value == letter.value


def test_a_patch_after_which_a_letter_is_no_event_leaves_it_as_it_was(choose, letter):
    text = choose("edit_letters", [letter], consent="yes", changes='{"data": {"thing": "another"}}')

    assert "0 done, 1 refused" in text
    assert FailedMessage.objects.get().value == letter.value


def test_a_patch_keeps_numbers_as_they_are():
    value = b'{"a":1.10,"b":123456789012345678901234567890,"c":{"d":1,"e":2},"f":3}'

    assert acts.merge(value, {"c": {"d": 5}, "f": None}) == (
        b'{"a":1.10,"b":123456789012345678901234567890,"c":{"d":5,"e":2}}'
    )


def test_selected_letters_are_tried_without_effect(choose, bury, effects):
    letters = [bury("a"), bury("b")]
    sample.broken["b"] = ValueError("broken")
    sample.mend()

    text = choose("dry_run_letters", letters)

    assert "Would be applied, and publishes thing.echoed" in text
    assert "Raises ValueError: broken" in text
    assert effects() == []


def test_letters_of_one_cause_are_retried_from_the_page_of_causes(admin_client, bury, choose, applier):
    letters = [bury("a"), bury("b")]
    sample.broken["c"] = ValueError("broken")
    applier.apply([record_of(ThingClosed(thing="c"), offset=500)])
    sample.mend()
    causes = admin_client.get(reverse("admin:outbox_failedmessage_causes")).context["causes"]
    [cause] = [cause for cause in causes if cause["error_class"] == "IntegrityError"]

    question = admin_client.post(
        cause["url"],
        {"action": "retry_letters", "index": "0", "select_across": "1", "_selected_action": cause["last"]},
    )
    assert "2 open failed messages" in question.content.decode()
    admin_client.post(cause["url"], {**dict(question.context["hidden"]), "consent": "yes"})

    assert [status(letter) for letter in letters] == ["PROCESSED", "PROCESSED"]
    assert FailedMessage.objects.get(offset=500).status == "PENDING"


def test_who_may_only_look_sees_no_buttons_and_may_press_none(somebody, letter):
    client = somebody("view_failedmessage")
    page = client.get(reverse("admin:outbox_failedmessage_change", args=[letter.pk])).content.decode()
    assert "IntegrityError" in page
    assert 'name="act"' not in page
    assert "_letters" not in client.get(reverse(LIST)).content.decode()
    assert "_letters" not in client.get(reverse("admin:outbox_failedmessage_causes")).content.decode()
    for button in BUTTONS:
        url = reverse("admin:outbox_failedmessage_act", args=[letter.pk])
        fields = {"act": button, "value": edited(letter, number=7), "reason": "because"}
        assert client.post(url, fields).status_code == 403
    for action in ["retry_letters", "edit_letters", "discard_letters", "dry_run_letters"]:
        fields = {"action": action, "index": "0", "_selected_action": letter.pk, "consent": "yes", "reason": "because"}
        assert client.post(reverse(LIST), fields).status_code == 403
    assert status(letter) == "PENDING"


def test_who_may_retry_may_not_discard_and_the_other_way_round(somebody, letter):
    url = reverse("admin:outbox_failedmessage_act", args=[letter.pk])
    retrier = somebody("view_failedmessage", "retry_failedmessage")
    discarder = somebody("view_failedmessage", "discard_failedmessage")

    assert retrier.post(url, {"act": "discard", "reason": "because"}).status_code == 403
    for button in ["retry", "edit", "dry_run", "dry_run_edited"]:
        assert discarder.post(url, {"act": button}).status_code == 403
    assert retrier.post(url, {"act": "retry"}).status_code == 302
    assert discarder.post(url, {"act": "discard", "reason": "because"}).status_code == 302
    assert status(letter) == "DISCARDED"


def test_who_may_not_look_sees_nothing(somebody, letter):
    client = somebody("retry_failedmessage", "discard_failedmessage")
    for url in [
        reverse(LIST),
        reverse("admin:outbox_failedmessage_causes"),
        reverse("admin:outbox_failedmessage_change", args=[letter.pk]),
        reverse("admin:outbox_failedmessage_history", args=[letter.pk]),
        reverse("admin:outbox_outboxevent_event"),
    ]:
        assert client.get(url).status_code == 403
    assert client.post(reverse("admin:outbox_failedmessage_act", args=[letter.pk]), {"act": "retry"}).status_code == 403


def test_an_events_page_shows_of_each_table_only_what_a_person_may_see(somebody, letter):
    url = reverse("admin:outbox_outboxevent_event", query={"id": letter.event_id})

    assert "IntegrityError" in somebody("view_failedmessage").get(url).content.decode()
    assert "IntegrityError" not in somebody("view_outboxevent").get(url).content.decode()


def test_an_act_needs_a_post_a_token_and_a_name(admin_client, admin_user, letter):
    url = reverse("admin:outbox_failedmessage_act", args=[letter.pk])
    assert admin_client.get(url).status_code == 405
    assert admin_client.post(url, {"act": "nonsense"}).status_code == 400
    assert admin_client.post(url).status_code == 400
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(admin_user)
    assert careful.post(url, {"act": "retry"}).status_code == 403
    assert careful.post(url, {"act": "discard", "reason": "because"}).status_code == 403
    assert Client().post(url, {"act": "retry"}).status_code == 302
    assert status(letter) == "PENDING"


def test_a_halted_group_is_resumed_and_the_log_says_so(admin_client, admin_user, db):
    ConsumerGroup.objects.update_or_create(
        name="sample", defaults={"halted_at": timezone.now(), "failures_in_a_row": 100}
    )

    answer = admin_client.post(
        reverse("admin:outbox_consumergroup_changelist"),
        {"action": "resume_groups", "index": "0", "_selected_action": "sample"},
        follow=True,
    )

    group = ConsumerGroup.objects.get(name="sample")
    assert (group.halted_at, group.failures_in_a_row) == (None, 0)
    assert "Sample goes on." in answer.content.decode()
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (admin_user, "sample")
    assert entry.change_message.startswith("Resumed. It was halted since")


def test_who_may_only_look_resumes_no_group(somebody, db):
    ConsumerGroup.objects.update_or_create(name="sample", defaults={"halted_at": timezone.now()})

    answer = somebody("view_consumergroup").post(
        reverse("admin:outbox_consumergroup_changelist"),
        {"action": "resume_groups", "index": "0", "_selected_action": "sample"},
    )

    assert answer.status_code == 403
    assert ConsumerGroup.objects.get(name="sample").halted_at
