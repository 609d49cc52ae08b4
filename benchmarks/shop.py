"""Shops under measurement: each a database of its own, filled, with all that `make run` starts or only with a web."""

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg
import redis

from benchmarks.bench import TIMEOUT_SECONDS, Bench, new_database
from benchmarks.client import Address, Call, send
from benchmarks.processes import CHECKOUT, Worker, run
from devstack import ports
from devstack.run import DEMO_SETTINGS, WEB_OPTIONS

# How long nothing may happen.
STALLED_SECONDS = 120.0
WATCH_SECONDS = 0.02


@dataclass
class Shop:
    """A filled database. It has a prefix of its own in Kafka and Redis."""

    bench: Bench
    db: psycopg.Connection[Any]
    # What its processes find in their environment.
    environment: dict[str, str]
    # Tokens of customers with money and of some without, and SKUs of which there are plenty.
    customers: list[str]
    poor: list[str]
    skus: list[str]

    def start(self, name: str, arguments: Sequence[str], **environment: str) -> Worker:
        """Start a process that works for this shop."""
        return Worker(name, arguments, {**self.environment, **environment}, self.bench.logs)

    def audit(self) -> dict[str, Any]:
        """Return what `audit --strict` finds."""
        done = subprocess.run(
            [sys.executable, "manage.py", "audit", "--strict", "--json"],
            cwd=CHECKOUT,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.stdout:
            raise RuntimeError(f"audit failed:\n{done.stderr}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def number(self, query: str) -> int:
        """Return the one number that a query selects."""
        [found] = self.db.execute(query).fetchone() or [0]
        return int(found)


@dataclass(frozen=True)
class Site:
    """A shop that is open: where its web answers, the processes that work in it, and those that take orders up."""

    address: Address
    workers: list[Worker]
    takers: Callable[[], list[psutil.Process]] = list

    def cpu_seconds(self) -> float:
        """Return the CPU time that all of them have used so far; the engines are not among them."""
        return sum(worker.family_cpu_seconds() for worker in self.workers)

    @contextmanager
    def backed_up(self) -> Iterator[None]:
        """Stop those that take orders up until the block ends, so that orders wait as they were placed."""
        takers = self.takers()
        for taker in takers:
            taker.suspend()
        try:
            yield
        finally:
            for taker in takers:
                taker.resume()

    def watch(self) -> None:
        """Raise Died when one of them runs no more."""
        for worker in self.workers:
            worker.watch()


@contextmanager
def filled(bench: Bench) -> Iterator[Shop]:
    """Give a shop with goods and customers in which nobody works yet. What it leaves is deleted at the end."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}-"
    with new_database() as url, psycopg.connect(url, autocommit=True) as db:
        environment = {
            **DEMO_SETTINGS,
            "DATABASE_URL": url,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "KAFKA_PREFIX": prefix,
        }
        shop = Shop(bench, db, environment, **run(["-m", "benchmarks.seed"], environment))
        db.execute("VACUUM ANALYZE")
        db.execute("CHECKPOINT")
        try:
            yield shop
        finally:
            topics = [
                topic for topic in bench.admin.list_topics(timeout=TIMEOUT_SECONDS).topics if topic.startswith(prefix)
            ]
            if topics:
                for deleted in bench.admin.delete_topics(topics, operation_timeout=TIMEOUT_SECONDS).values():
                    deleted.result()
            with redis.Redis.from_url(os.environ["REDIS_URL"]) as server:
                for key in server.scan_iter(f"{prefix}*"):
                    server.delete(key)


@contextmanager
def whole_stack(shop: Shop, *, taker: str = "relay", **settings: str) -> Iterator[Site]:
    """Run all that `make run` starts, but for the engines, until the block ends.

    `taker` is the process that is stopped while the site is backed up.
    """
    # Left as it is at the end, for its logs.
    state = shop.bench.logs / "stack"
    shutil.rmtree(state, ignore_errors=True)
    arguments = ["-m", "devstack", "run", "--state", str(state), "--no-demo", "--stop-with-parent"]
    port = str(ports.choose(taken=set()))
    with shop.start("stack", arguments, PORT=port, **settings) as stack:
        address = (ports.LOOPBACK, int(port))
        # The last one that is started.
        wait_until(lambda: (state / "pids" / "celery-beat").exists() and is_ready(address), stack.watch)
        yield Site(address, [stack], lambda: [psutil.Process(int((state / "pids" / taker).read_text()))])


@contextmanager
def web(shop: Shop, application: str = "config.wsgi", **environment: str) -> Iterator[Site]:
    """Run only the web, as `make run` has it, until the block ends."""
    port = ports.choose(taken=set())
    address = (ports.LOOPBACK, port)
    arguments = ["-m", "gunicorn", application, "--bind", f"{ports.LOOPBACK}:{port}", *WEB_OPTIONS]
    with shop.start(f"web-{application.rpartition('.')[2]}", arguments, **environment) as worker:
        wait_until(lambda: is_ready(address), worker.watch)
        yield Site(address, [worker])


def is_ready(address: Address) -> bool:
    """Tell whether a web can take orders."""
    try:
        return send(address, [Call("GET", "/readyz")], connections=1).statuses[200] == 1
    except OSError:
        return False


def wait_until(
    happened: Callable[[], bool], watch: Callable[[], None], *, progress: Callable[[], object] = lambda: None
) -> None:
    """Block until something has happened.

    Raises TimeoutError when there is no progress for STALLED_SECONDS, and what `watch` raises.
    """
    before, changed_at = progress(), time.monotonic()
    while not happened():
        watch()
        now = progress()
        if now != before:
            before, changed_at = now, time.monotonic()
        elif time.monotonic() - changed_at > STALLED_SECONDS:
            raise TimeoutError(f"nothing happens for {STALLED_SECONDS:.0f} s: {now}")
        time.sleep(WATCH_SECONDS)
