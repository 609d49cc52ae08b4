"""Coupons in earnest: readers as processes that are killed, Redis that loses all, the setting that is switched."""

import subprocess
from contextlib import ExitStack
from itertools import count

import pytest
from confluent_kafka.admin import NewTopic

from coupons import services
from coupons.models import Coupon, IssuedCoupon, Request
from coupons.services import DuplicateRequest, OutOfStock
from coupons.tests.readers import answers, is_first_come_first_served, owners, push
from coupons.tests.test_processor import adds_up
from outbox.kafka import admin_client, topic_name
from outbox.models import FailedMessage, OutboxEvent
from outbox.registry import topics_of
from outbox.relay.relay import Relay
from outbox.tests.processes import environment, running, wait_until
from outbox.worker import Stop

pytestmark = pytest.mark.django_db(transaction=True)

SUCCESS, DUPLICATE, OUT_OF_STOCK = "SUCCESS", "DUPLICATE_REQUEST", "OUT_OF_STOCK"


@pytest.fixture(autouse=True)
def installation(settings, own_redis):
    """An installation of the test's own, in Kafka as in Redis."""
    settings.OUTBOX = {**settings.OUTBOX, "PREFIX": f"{settings.REDIS_PREFIX}."}
    settings.REDIS_PREFIX = settings.OUTBOX["PREFIX"]
    settings.COUPON_QUEUE = "redis"
    return own_redis


class Crew:
    """Processes that decide, each of which can be told by the name that its sessions have in PostgreSQL."""

    def __init__(self, stack: ExitStack, redis_url: str) -> None:
        self._stack, self._redis_url, self._numbers = stack, redis_url, count()
        self._processes: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        name = f"reader-{next(self._numbers)}"
        database = f"{environment()['DATABASE_URL']}?application_name={name}"
        process = running("run_consumer", "coupons", DATABASE_URL=database, REDIS_URL=self._redis_url)
        self._processes[name] = self._stack.enter_context(process)

    def kill_the_one_that_reads(self) -> None:
        """Kill it as a crash would, and start another one."""
        wait_until(owners)
        [(_, name)] = owners()
        self._processes.pop(name).kill()
        self.start()


@pytest.fixture
def crew(installation):
    with ExitStack() as stack:
        yield Crew(stack, installation.url)


@pytest.fixture
def topics(installation):
    """The topics that the group reads."""
    client, ours = admin_client(), [topic_name(topic) for topic in topics_of("coupons")]
    for future in client.create_topics([NewTopic(topic, 1) for topic in ours], operation_timeout=20).values():
        future.result()
    yield
    for future in client.delete_topics(ours).values():
        future.result()


def decided() -> int:
    return Request.objects.exclude(status="QUEUED").count()


def test_three_readers_of_which_three_are_killed_lose_and_double_nothing(coupon, people, queued, crew):
    Coupon.objects.update(quantity=700)
    users = people(1_000)
    # Each of them twice, the second time after all others.
    requests = [*queued(*users, queue="REDIS"), *queued(*users, queue="REDIS")]
    for _ in range(3):
        crew.start()
    for number in range(0, 2_000, 500):
        push(requests[number : number + 500])
        wait_until(lambda number=number: decided() > number)
        if number < 1_500:
            crew.kill_the_one_that_reads()
    wait_until(lambda: decided() == 2_000, 60)

    assert answers(requests) == [SUCCESS] * 700 + [OUT_OF_STOCK] * 300 + [DUPLICATE] * 700 + [OUT_OF_STOCK] * 300
    assert is_first_come_first_served()
    assert adds_up()
    assert OutboxEvent.objects.filter(event_type__in=["coupon.issued", "coupon.rejected"]).count() == 2_000


def test_switching_the_queue_in_the_middle_and_losing_redis_loses_and_doubles_nothing(
    coupon, people, settings, installation, topics, crew
):
    Coupon.objects.update(quantity=100)
    users = people(240)
    crew.start()
    refused = 0
    for number, user in enumerate(users * 2):
        settings.COUPON_QUEUE = "redis" if number // 40 % 2 else "kafka"
        try:
            services.ask(user_id=user.pk, code="TEN")
        except (DuplicateRequest, OutOfStock):
            refused += 1
        if number == 60:
            installation.lose_all()
        if number % 40 == 20:
            Relay().run(Stop(), once=True)
    Relay().run(Stop(), once=True)
    wait_until(lambda: decided() + refused == 480, 60)

    assert adds_up()
    assert IssuedCoupon.objects.count() == 100
    assert set(Request.objects.values_list("status", flat=True)) <= {SUCCESS, OUT_OF_STOCK}
    assert {request.queue for request in Request.objects.filter(status=SUCCESS)} == {"KAFKA", "REDIS"}
    assert is_first_come_first_served()
    by_kafka = list(Request.objects.filter(queue="KAFKA").order_by("pk").values_list("status", flat=True))
    assert by_kafka == sorted(by_kafka, reverse=True)
    assert not FailedMessage.objects.exists()
