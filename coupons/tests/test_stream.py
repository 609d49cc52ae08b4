"""The queue in Redis: what its reader makes of it, whatever becomes of Redis, PostgreSQL, or the reader."""

from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
import redis
from django.db import connection
from django.utils import timezone
from uuid_utils.compat import uuid7

from config.redis import key
from coupons import reading as reader_module
from coupons import services, stream
from coupons.events import CouponRejected
from coupons.models import Coupon, Request
from coupons.stream import BATCH_SIZE, Entry, StreamLost, Streams
from coupons.tests.readers import (
    answers,
    drain,
    in_order,
    is_first_come_first_served,
    owners,
    place,
    push,
    reading,
)
from coupons.tests.refusing import refused
from outbox.database import connection_parameters
from outbox.testing.crashing import STEPS, crashing
from outbox.tests.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

SUCCESS, OUT_OF_STOCK, SYSTEM_ERROR = "SUCCESS", "OUT_OF_STOCK", "SYSTEM_ERROR"


@pytest.fixture(autouse=True)
def quickly(monkeypatch, own_redis):
    """Let what is late be late sooner."""
    monkeypatch.setattr(reader_module, "LATE_SECONDS", 0.5)
    monkeypatch.setattr(reader_module, "LATE_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(reader_module, "LOOK_SECONDS", 0.2)


@pytest.fixture
def server(own_redis):
    """A client that may do what a person at the server may."""
    return redis.Redis.from_url(own_redis.url)


@pytest.fixture
def waiting(coupon, people, queued):
    """Return a function that lets so many more users ask by Redis, without the stream."""
    return lambda count, code="TEN": queued(*people(count), code=code, queue="REDIS")


def name(code="TEN") -> str:
    return key("coupons", "stream", code)


def is_late(requests) -> None:
    """Let requests have been made a while ago."""
    Request.objects.filter(pk__in=[r.pk for r in requests]).update(created_at=timezone.now() - timedelta(minutes=1))


def all_answered() -> bool:
    return not Request.objects.queued().exists()


@contextmanager
def coupon_locked():
    """Let nobody decide until the block ends."""
    with psycopg.connect(**connection_parameters(connection)) as other:
        other.execute("SELECT FROM coupons_coupon FOR UPDATE")
        yield


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        return cursor.fetchone() is not None


# ── The stream ────────────────────────────────────────────────────────────────────────────────────────────────────


class TestStreams:
    def test_what_was_read_and_not_dropped_is_in_hand_of_whoever_reads_next(self, server):
        requests = [uuid7() for _ in range(3)]
        for request in requests[:2]:
            stream.push("TEN", request)
        streams = Streams()
        streams.open("TEN")
        [first, second] = streams.read(["TEN"], wait_seconds=0)["TEN"]
        stream.push("TEN", requests[2])
        assert [first.request_id, second.request_id] == requests[:2]
        streams.drop("TEN", [first])

        heir = Streams()
        heir.open("TEN")

        assert heir.in_hand("TEN") == [second]
        [third] = heir.read(["TEN"], wait_seconds=0)["TEN"]
        assert third.request_id == requests[2]
        heir.drop("TEN", [second, third])
        assert (heir.in_hand("TEN"), stream.depth("TEN")) == ([], 0)

    def test_an_entry_that_names_no_request_is_one_without(self, server):
        for fields in ({"request_id": "x"}, {"request_id": b"\xff"}, {"other": str(uuid7())}):
            server.xadd(name(), fields)
        deleted = server.xadd(name(), {"request_id": str(uuid7())})
        streams = Streams()
        streams.open("TEN")
        assert [entry.request_id for entry in streams.read(["TEN"], wait_seconds=0)["TEN"][:3]] == [None] * 3

        server.xdel(name(), deleted)

        assert streams.in_hand("TEN")[3] == Entry(deleted.decode(), None)

    def test_a_long_stream_can_be_looked_through(self):
        there = [uuid7() for _ in range(2 * BATCH_SIZE + 1)]
        streams = Streams()
        streams.append("TEN", there)

        pages = list(streams.pages("TEN"))

        assert [len(page) for page in pages] == [BATCH_SIZE, BATCH_SIZE, 1]
        assert [entry.request_id for page in pages for entry in page] == there

    def test_a_stream_is_closed_when_it_is_empty_only(self, server):
        streams = Streams()
        streams.open("TEN")
        stream.push("TEN", uuid7())
        streams.close("TEN")
        assert (server.exists(name()), streams.opened()) == (1, {"TEN"})
        streams.drop("TEN", streams.read(["TEN"], wait_seconds=0)["TEN"])

        streams.close("TEN")

        assert (server.exists(name()), streams.opened()) == (0, set())
        with pytest.raises(StreamLost):
            streams.in_hand("TEN")

    def test_installations_on_one_redis_do_not_meet(self, settings):
        stream.push("TEN", uuid7())
        Streams().open("TEN")
        settings.REDIS_PREFIX = "another"

        assert (stream.depth("TEN"), Streams().opened()) == (0, set())

    def test_its_depth_is_not_known_while_redis_is_away(self, own_redis):
        stream.push("TEN", uuid7())
        assert stream.depth("TEN") == 1
        with own_redis.away():
            assert stream.depth("TEN") is None


# ── The reader ────────────────────────────────────────────────────────────────────────────────────────────────────


class TestReading:
    @pytest.mark.parametrize("queue", ["kafka", "redis"])
    def test_first_come_is_the_order_of_the_stream_whatever_the_setting_is(self, waiting, settings, queue):
        settings.COUPON_QUEUE = queue
        requests = waiting(4)
        push(reversed(requests))

        drain()

        assert answers(requests) == [OUT_OF_STOCK, OUT_OF_STOCK, SUCCESS, SUCCESS]
        assert in_order() == [SUCCESS, SUCCESS, OUT_OF_STOCK, OUT_OF_STOCK]
        assert stream.depth("TEN") == 0

    def test_what_is_asked_by_redis_is_answered(self, coupon, people, settings):
        settings.COUPON_QUEUE = "redis"
        with reading():
            for user in people(3):
                services.ask(user_id=user.pk, code="TEN")
            wait_until(all_answered)
        assert in_order() == [SUCCESS, SUCCESS, OUT_OF_STOCK]

    def test_many_coupons_are_read_at_once(self, coupon, people, queued):
        codes = [f"C{number}" for number in range(12)]
        Coupon.objects.bulk_create(Coupon(code=code, name=code, quantity=1) for code in codes)
        users = people(2)
        for code in codes:
            push(queued(*users, code=code, queue="REDIS"))

        drain()

        assert [in_order(code) for code in codes] == [[SUCCESS, OUT_OF_STOCK]] * 12

    def test_more_than_a_batch_is_decided_in_order(self, waiting):
        Coupon.objects.update(quantity=BATCH_SIZE + 50)
        requests = waiting(BATCH_SIZE + 100)
        push(requests)

        drain()

        assert answers(requests) == [SUCCESS] * (BATCH_SIZE + 50) + [OUT_OF_STOCK] * 50

    def test_what_another_one_had_in_hand_comes_first(self, waiting):
        requests = waiting(4)
        push(requests[:2])
        streams = Streams()
        streams.open("TEN")
        streams.read(["TEN"], wait_seconds=0)
        push(requests[2:])

        drain()

        assert answers(requests) == [SUCCESS, SUCCESS, OUT_OF_STOCK, OUT_OF_STOCK]

    def test_entries_that_name_nothing_that_waits_are_dropped(self, waiting, queued, people, server):
        [request, answered, given_up] = waiting(3)
        [other] = waiting(1, code="OTHER")
        [by_kafka] = queued(*people(1))
        services.decide(request_ids=[answered.pk])
        services.give_up(request_ids=[given_up.pk])
        before = list(Request.objects.filter(pk__in=[answered.pk, given_up.pk, by_kafka.pk]).values())
        for request_id in (uuid7(), answered.pk, given_up.pk, other.pk, by_kafka.pk, request.pk, request.pk):
            stream.push("TEN", request_id)
        server.xadd(name(), {"request_id": "nobody's"})

        drain()

        assert answers([request, other]) == [SUCCESS, "VALIDATION_FAILED"]
        assert list(Request.objects.filter(pk__in=[answered.pk, given_up.pk, by_kafka.pk]).values()) == before
        assert (stream.depth("TEN"), stream.depth("OTHER")) == (0, 0)

    def test_an_entry_that_a_crash_left_is_dropped_though_nothing_waits(self, waiting):
        [request] = waiting(1)
        Streams().open("TEN")
        push([request])
        services.decide(request_ids=[request.pk])

        drain()

        assert stream.depth("TEN") == 0

    @pytest.mark.parametrize("step", ["before the commit", "after the commit"])
    def test_a_crash_loses_and_doubles_nothing(self, waiting, outbox, step):
        assert step in STEPS
        requests = waiting(3)
        push(requests)
        with crashing(step, connection):
            drain()
        assert answers(requests) == (["QUEUED"] * 3 if step == "before the commit" else [SUCCESS] * 2 + [OUT_OF_STOCK])

        drain()

        assert answers(requests) == [SUCCESS, SUCCESS, OUT_OF_STOCK]
        assert outbox.types == ["coupon.issued", "coupon.issued", "coupon.rejected"]
        assert stream.depth("TEN") == 0

    def test_a_stream_in_which_nothing_comes_is_given_back_and_taken_again(self, waiting, server, monkeypatch):
        monkeypatch.setattr(reader_module, "KEEP_SECONDS", 0)
        with reading():
            for _ in range(2):
                push(waiting(1))
                wait_until(lambda: all_answered() and not server.exists(name()) and not owners())
        assert in_order() == [SUCCESS] * 2


class TestReadersTogether:
    def test_a_stream_is_read_by_one_at_a_time(self, waiting):
        Coupon.objects.update(quantity=1000)
        requests = waiting(200)
        with reading(), reading(), reading():
            for number in range(0, 200, 10):
                push(requests[number : number + 10])
                assert len(owners()) <= 1
            wait_until(all_answered)
        assert answers(requests) == [SUCCESS] * 200

    def test_what_one_reads_who_does_not_know_yet_that_it_should_not_keeps_its_place(self, waiting):
        requests = waiting(6)
        with reading():
            with coupon_locked():
                push(requests[:1])
                wait_until(somebody_waits_for_a_lock)
                push(requests[1:3])
                assert len(Streams().read(["TEN"], wait_seconds=0)["TEN"]) == 2
                push(requests[3:])
            wait_until(all_answered)
        assert answers(requests) == [SUCCESS] * 2 + [OUT_OF_STOCK] * 4

    def test_who_lost_its_session_gives_way_and_comes_back(self, waiting):
        requests = waiting(30)
        with reading(), reading():
            for number in range(0, 30, 10):
                push(requests[number : number + 10])
                wait_until(lambda number=number: "QUEUED" not in answers(requests[: number + 10]))
                [(before, _)] = owners()
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_terminate_backend(%s)", [before])
                wait_until(lambda before=before: [pid for pid, _ in owners() if pid != before])
        assert answers(requests) == [SUCCESS] * 2 + [OUT_OF_STOCK] * 28


# ── Failures ──────────────────────────────────────────────────────────────────────────────────────────────────────


class TestFailures:
    def test_a_request_that_cannot_be_decided_is_given_up_and_holds_up_nobody(self, waiting, outbox, caplog):
        requests = waiting(6)
        push(requests)
        with refused(requests[1].user):
            drain()
            assert answers(requests) == [SUCCESS, SYSTEM_ERROR, SUCCESS, OUT_OF_STOCK, OUT_OF_STOCK, OUT_OF_STOCK]
        assert is_first_come_first_served()
        told = outbox.published(CouponRejected, request_id=requests[1].pk)
        assert (told.user_id, told.reason) == (requests[1].user_id, SYSTEM_ERROR)
        assert "a request could not be decided" in caplog.text
        assert "no_answer" in caplog.text
        assert stream.depth("TEN") == 0

    def test_one_that_was_given_up_may_be_asked_again(self, waiting, settings):
        settings.COUPON_QUEUE = "redis"
        [request] = waiting(1)
        push([request])
        with refused(request.user):
            drain()

        again = services.ask(user_id=request.user_id, code="TEN")
        drain()

        assert answers([request, again]) == [SYSTEM_ERROR, SUCCESS]

    def test_nothing_is_decided_by_a_session_that_does_not_have_the_lock(self, waiting):
        requests = waiting(2)
        push(requests)
        sessions = []

        def execute(run, sql, *rest):
            if sql.startswith('INSERT INTO "coupons_issuedcoupon"'):
                sessions.append(connection.connection.info.backend_pid)
                if len(sessions) == 1:
                    connection.connection.close()
                    raise ValueError("the connection broke, and nobody says so")
                assert [session for session, _ in owners()] == sessions[1:]
            return run(sql, *rest)

        with connection.execute_wrapper(execute):
            drain()

        assert answers(requests) == [SUCCESS] * 2
        assert len(sessions) == 2

    def test_connections_cut_by_postgresql_burn_nothing(self, waiting):
        Coupon.objects.update(quantity=100)
        requests = waiting(200)
        with reading():
            for number in range(0, 200, 20):
                push(requests[number : number + 20])
                with connection.cursor() as cursor:
                    cursor.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
            wait_until(all_answered)
        assert answers(requests) == [SUCCESS] * 100 + [OUT_OF_STOCK] * 100


class TestTroubleOfRedis:
    def test_what_was_never_told_to_redis_is_put_in_by_the_order_of_its_ids(self, waiting):
        requests = waiting(3)

        drain()

        assert answers(requests) == [SUCCESS, SUCCESS, OUT_OF_STOCK]
        assert in_order() == [SUCCESS, SUCCESS, OUT_OF_STOCK]

    def test_of_many_only_those_are_put_in_that_are_not_there(self, waiting):
        Coupon.objects.update(quantity=3 * BATCH_SIZE)
        requests = waiting(2 * BATCH_SIZE + 10)
        is_late(requests)
        lost, there = requests[: BATCH_SIZE + 5], requests[BATCH_SIZE + 5 :]
        push(there)
        with reading():
            wait_until(all_answered)
        by_place = sorted(Request.objects.all(), key=place)
        assert [request.pk for request in by_place] == [request.pk for request in [*there, *lost]]

    def test_what_redis_lost_is_put_back(self, waiting, own_redis):
        requests = waiting(40)
        with reading():
            for number in range(0, 40, 10):
                push(requests[number : number + 10])
                if number == 20:
                    own_redis.lose_all()
            wait_until(all_answered)
        assert sorted(in_order()) == [OUT_OF_STOCK] * 38 + [SUCCESS] * 2
        assert is_first_come_first_served()

    @pytest.mark.parametrize("loss", ["flushall", "stream", "group"])
    def test_what_a_person_deleted_is_made_again(self, waiting, server, loss):
        requests = waiting(4)
        with reading():
            push(requests[:2])
            wait_until(lambda: "QUEUED" not in answers(requests[:2]))
            if loss == "flushall":
                server.flushall()
            elif loss == "stream":
                server.delete(name())
            else:
                server.xgroup_destroy(name(), stream.GROUP)
            push(requests[2:])
            wait_until(all_answered)
        assert answers(requests) == [SUCCESS, SUCCESS, OUT_OF_STOCK, OUT_OF_STOCK]

    @pytest.mark.parametrize("trouble", ["away", "hanging"])
    def test_its_absence_is_waited_out_and_told(self, waiting, own_redis, trouble):
        requests = waiting(4)
        with reading() as reader:
            push(requests[:2])
            wait_until(lambda: "QUEUED" not in answers(requests[:2]))
            with getattr(own_redis, trouble)():
                wait_until(lambda: reader.not_ready() == "Redis does not answer")
                assert answers(requests[2:]) == ["QUEUED"] * 2
            wait_until(lambda: all_answered() and reader.not_ready() is None)
        assert answers(requests) == [SUCCESS, SUCCESS, OUT_OF_STOCK, OUT_OF_STOCK]

    def test_who_hangs_for_long_has_lost_its_streams(self, waiting, own_redis, monkeypatch):
        monkeypatch.setattr(reader_module, "IDLE_SESSION_SECONDS", 1)
        requests = waiting(4)
        with reading():
            push(requests[:2])
            wait_until(lambda: "QUEUED" not in answers(requests[:2]))
            [(session, _)] = owners()
            with own_redis.hanging():
                wait_until(lambda: not owners())
            wait_until(all_answered)
            wait_until(lambda: [pid for pid, _ in owners() if pid != session])
        assert answers(requests) == [SUCCESS, SUCCESS, OUT_OF_STOCK, OUT_OF_STOCK]

    def test_its_absence_is_no_trouble_where_nothing_waits_in_it(self, waiting, queued, people, own_redis):
        queued(*people(1))
        with own_redis.away():
            drain()
            with reading() as reader:
                assert reader.not_ready() is None
        assert Request.objects.queued().count() == 1
