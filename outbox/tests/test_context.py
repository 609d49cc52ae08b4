"""The trace and the log fields of what is being handled."""

import io
import logging

import pytest
from django.db import transaction
from django.http import HttpResponse
from django.test import RequestFactory

from outbox import publish
from outbox.consuming.applying import Applier, handle
from outbox.context import Trace, beating, handling, log_fields, traceparents, tracing
from outbox.logs import ContextFilter
from outbox.middleware import TraceMiddleware
from outbox.models import OutboxEvent
from outbox.record import Reading, read
from outbox.registry import Handler, handlers_of
from outbox.tests.records import record_of
from outbox.tests.sample import ThingClosed, ThingCounted

A, B, C = ("a" * 32, "b" * 32, "c" * 32)
PARENT = "1" * 16


def traceparent(trace_id, flags="01"):
    return f"00-{trace_id}-{PARENT}-{flags}"


def record(event, trace_id=None, **place):
    """Return the record of an event, of a trace."""
    made = record_of(event, **place)
    if trace_id:
        made.headers.append(("traceparent", traceparent(trace_id).encode()))
    return made


def reading(event, trace_id=None, **place) -> Reading:
    return read(record(event, trace_id, **place), handlers_of("sample"))


def counted(thing, trace_id=None, **place) -> Reading:
    return reading(ThingCounted(thing=thing, number=1), trace_id, **place)


def trace_ids(*keys):
    """Return the trace of each event that is published now under these keys."""
    return [Trace.of(traceparent).trace_id for traceparent in traceparents(keys)]


@pytest.mark.parametrize("flags", ["00", "01", "02", "03"])
def test_a_trace_keeps_its_id_and_its_flags(flags):
    assert Trace.of(traceparent(A, flags)).traceparent("2" * 16) == f"00-{A}-{'2' * 16}-{flags}"


def test_flags_that_have_no_meaning_yet_are_not_passed_on():
    assert Trace.of(traceparent(A, "ff")).traceparent(PARENT).endswith("-03")


@pytest.mark.parametrize("later", ["", "-", "-what-may-come"])
def test_a_later_version_is_read_as_far_as_it_is_known(later):
    assert Trace.of(f"cc-{A}-{PARENT}-01{later}") == Trace(A)


@pytest.mark.parametrize(
    "malformed",
    [
        None, "", b"", "x", b"\xff\xfe", f"00-{A}-{PARENT}", f"00-{A}-{PARENT}-01-more", f"00-{A}-{PARENT}-1",
        f"00-{A}-{PARENT}-01 ", f"00-{A}-{PARENT}-01\n", f"ff-{A}-{PARENT}-01", f"0-{A}-{PARENT}-01",
        f"00-{A.upper()}-{PARENT}-01", f"00-{A[1:]}-{PARENT}-01", f"00-{A}a-{PARENT}-01", f"00-{'g' * 32}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01", f"00-{A}-{'0' * 16}-01", f"00_{A}_{PARENT}_01", f"cc-{A}-{PARENT}-01x",
        f"00-{A}-{PARENT}-01,00-{B}-{PARENT}-01", f"00-{'١' * 32}-{PARENT}-01",
    ],
)  # fmt: skip
def test_what_is_no_traceparent_names_no_trace(malformed):
    assert Trace.of(malformed) is None


def test_what_is_published_belongs_to_the_trace_of_the_block():
    with tracing(traceparent(A)):
        assert trace_ids(b"x", b"y") == [A, A]


@pytest.mark.parametrize("malformed", [None, f"00-{'0' * 32}-{PARENT}-01"])
def test_a_block_without_a_valid_trace_begins_one(malformed):
    with tracing(malformed):
        first, second, third = trace_ids(b"x", b"y") + trace_ids(b"x")

    assert first == second == third
    assert first != "0" * 32


def test_events_published_outside_of_all_begin_one_trace_a_call():
    first, second, third = trace_ids(b"x", b"y") + trace_ids(b"x")

    assert first == second != third


def test_each_act_of_publishing_is_a_parent_of_its_own():
    with tracing(traceparent(A)):
        parents = [traceparents([b"x"])[0].split("-")[2] for _ in range(3)]

    assert len({*parents, PARENT}) == 4


def test_a_batch_keeps_each_keys_trace():
    with handling("sample", [counted("a", A), counted("b", B), counted("c", C)]):
        assert trace_ids(b"c", b"a", b"b") == [C, A, B]


def test_a_key_that_is_not_in_hand_belongs_to_the_first_event():
    with handling("sample", [counted("a", A), counted("b", B)]):
        assert trace_ids(b"z") == [A]


def test_the_last_event_of_a_key_gives_its_trace():
    with handling("sample", [counted("a", A), counted("a", B)]):
        assert trace_ids(b"a") == [B]


def test_an_event_without_a_trace_begins_one_and_keeps_it():
    with handling("sample", [counted("a"), counted("b", B)]):
        first, second = trace_ids(b"a") + trace_ids(b"a")
        assert first == second not in (A, B)


def test_an_event_in_hand_counts_more_than_a_request():
    with tracing(traceparent(A)), handling("sample", [counted("b", B)]):
        assert trace_ids(b"b") == [B]


def test_a_block_ends():
    with tracing(traceparent(A)):
        with handling("sample", [counted("b", B)]):
            pass
        assert trace_ids(b"b") == [A]
    assert trace_ids(b"b") != [A]


def test_a_handlers_events_continue_the_traces_of_its_batch(transactional_db):
    records = [
        record(ThingCounted(thing=thing, number=n), trace_id, offset=n)
        for n, (thing, trace_id) in enumerate([("a", A), ("b", B), ("c", None)])
    ]

    Applier("sample", pause=print).apply(records)

    found = {bytes(row.key): Trace.of(row.traceparent).trace_id for row in OutboxEvent.objects.all()}
    assert (found[b"a"], found[b"b"]) == (A, B)
    assert found[b"c"] not in (A, B)


def test_a_request_passes_its_trace_on_to_what_it_publishes(db):
    def view(request):
        with transaction.atomic():
            publish(ThingClosed(thing="a"))
        return HttpResponse(log_fields()["trace_id"])

    response = TraceMiddleware(view)(RequestFactory().post("/", headers={"traceparent": traceparent(A)}))

    assert response.content.decode() == A
    row = OutboxEvent.objects.get()
    assert row.traceparent.startswith(f"00-{A}-")
    assert PARENT not in row.traceparent


@pytest.mark.parametrize("headers", [{}, {"traceparent": "nonsense"}])
def test_a_request_without_a_valid_trace_begins_one(headers):
    middleware = TraceMiddleware(lambda request: HttpResponse(log_fields()["trace_id"]))

    first, second = (middleware(RequestFactory().get("/", headers=headers)).content.decode() for _ in range(2))

    assert len(first) == 32
    assert first != second
    assert log_fields() == {}


@pytest.fixture
def logged():
    """Return a function that logs something, and returns what the record tells of what is handled."""
    handler = logging.StreamHandler(io.StringIO())
    records: list[logging.LogRecord] = []
    handler.addFilter(ContextFilter())
    handler.addFilter(lambda record: records.append(record) or True)
    logger = logging.getLogger("elsewhere")
    logger.addHandler(handler)
    usual = logging.makeLogRecord({}).__dict__.keys() | {"message", "taskName"}

    def log(**extra):
        logger.warning("something", extra=extra)
        return {name: value for name, value in records[-1].__dict__.items() if name not in usual}

    yield log
    logger.removeHandler(handler)


def test_a_line_tells_all_of_the_one_event_in_hand(logged):
    event = ThingCounted(thing="a", number=1)

    with handling("sample", [reading(event, A, offset=7, partition=2)]):
        assert logged() == {
            "group": "sample",
            "event_id": str(event.event_id),
            "event_type": "thing.counted",
            "key": "a",
            "topic": "thing-events",
            "partition": 2,
            "offset": 7,
            "trace_id": A,
        }


def test_a_line_tells_the_trace_that_its_handlers_events_have(logged):
    with handling("sample", [counted("a")]):
        assert [logged()["trace_id"]] == trace_ids(b"a")


def test_a_line_of_a_batch_tells_how_many_events_are_in_hand(logged):
    with handling("sample", [counted("a", A), counted("b", B)]):
        assert logged() == {"group": "sample", "events": 2}


def test_a_line_of_a_request_tells_its_trace(logged):
    with tracing(traceparent(A)):
        assert logged() == {"trace_id": A}


def test_a_line_about_a_request_that_is_over_tells_its_trace(logged):
    request = RequestFactory().get("/", headers={"traceparent": traceparent(A)})
    TraceMiddleware(lambda request: HttpResponse())(request)

    assert logged(request=request)["trace_id"] == A


@pytest.mark.parametrize("about", [None, "a request", RequestFactory().get("/")])
def test_a_line_about_what_has_no_trace_tells_none(logged, about):
    assert "trace_id" not in logged(request=about)


def test_a_line_outside_of_all_is_as_it_was(logged):
    assert logged(note="x") == {"note": "x"}


def test_what_a_line_says_itself_stays(logged):
    with handling("sample", [counted("a", A)]):
        assert logged(key="another", offset=3)["key"] == "another"


@pytest.mark.parametrize(("bulk", "told"), [(False, ["a", "b"]), (True, [None])])
def test_what_a_handler_logs_tells_what_it_was_called_with(logged, bulk, told):
    lines = []
    handler = Handler("sample", ThingClosed, lambda called_with: lines.append(logged()), bulk=bulk)
    records = [record(ThingClosed(thing=thing), offset=n) for n, thing in enumerate("ab")]

    handle("sample", [read(each, {"thing.closed": handler}) for each in records])

    assert [line.get("key") for line in lines] == told


def test_each_call_of_a_handler_is_a_sign_of_life(transactional_db, effects):
    beats = []
    records = [record_of(ThingClosed(thing=f"t{n}"), offset=n) for n in range(5)]

    with beating(lambda: beats.append(len(effects()))):
        Applier("sample", pause=lambda seconds: None).apply(records)

    assert beats == [0, 1, 2, 3, 4]
