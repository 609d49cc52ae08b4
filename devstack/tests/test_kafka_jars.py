"""The jars of Apache Kafka: nothing is used but what the lock names."""

import hashlib
from pathlib import Path

import pytest

from devstack import StackError
from devstack.kafka_jars import Jar, are_complete, class_path, install, read_lock

CONTENT = b"a jar"
JAR = Jar(group="org.example", artifact="example", version="1.0", sha256=hashlib.sha256(CONTENT).hexdigest())


def test_installs_what_the_lock_names(tmp_path: Path) -> None:
    download = tmp_path / "download"
    download.write_bytes(CONTENT)

    install(JAR, download, tmp_path)

    assert are_complete([JAR], tmp_path)


def test_refuses_a_download_with_another_checksum(tmp_path: Path) -> None:
    download = tmp_path / "download"
    download.write_bytes(b"another jar")

    with pytest.raises(StackError, match=r"its SHA-256 is .* but kafka.lock.toml says"):
        install(JAR, download, tmp_path)

    assert not JAR.path(tmp_path).exists()


def test_notices_a_jar_that_was_damaged_later(tmp_path: Path) -> None:
    JAR.path(tmp_path).write_bytes(b"a j")

    assert not are_complete([JAR], tmp_path)


def test_the_lock_names_kafka_and_a_logger_with_checksums() -> None:
    jars = {jar.artifact: jar for jar in read_lock()}

    assert {"kafka_2.13", "kafka-clients", "log4j-slf4j-impl", "log4j-core"} <= jars.keys()
    assert all(len(jar.sha256) == 64 for jar in jars.values())
    assert class_path().count(".jar") == len(jars)
