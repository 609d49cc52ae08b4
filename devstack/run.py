"""python -m devstack run: the whole of Orderbox on this machine, until Ctrl-C."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import environ
import httpx

from devstack import CHECKOUT, StackError, demo, engines, ports
from devstack.engines import all_of
from devstack.output import Output
from devstack.runner import Runner, Service
from devstack.state import State, StateLock
from devstack.stopping import StopRequests

_FIRST_PORT = 8000
_WEB_START_SECONDS = 60.0
# How gunicorn serves.
WEB_OPTIONS = (
    *("--worker-class", "gthread", "--workers", "2", "--threads", "8"),
    *("--graceful-timeout", "5", "--no-control-socket"),
)
DEMO_SETTINGS = {
    "ALLOWED_HOSTS": "127.0.0.1,localhost",
    "DEMO": "true",
    "WALLET_SELF_DEPOSIT": "true",
    # All who try the demo have one address, and a few names between them.
    "THROTTLE_USER_PER_MINUTE": "600000",
    "THROTTLE_ADDRESS_PER_MINUTE": "600000",
    "FAILED_LOGINS_PER_NAME": "20",
    "FAILED_LOGINS_PER_ADDRESS": "1000",
}
# It serves on loopback alone, without TLS, whatever .env has for Docker Compose.
WITHOUT_TLS = {"HTTPS": "false", "HTTPS_PROXY_HEADER": "", "HSTS_SECONDS": "0"}
# The settings that a person may give: manage.py in a second terminal is to follow them as well.
SETTINGS = (
    *(
        "DEBUG",
        "LOG_LEVEL",
        "METRICS_PORT",
        "LOG_FORMAT",
        "KAFKA_PREFIX",
        "KAFKA_REPLICATION_FACTOR",
        "KAFKA_SECURITY",
        "KAFKA_PRODUCER",
        "KAFKA_CONSUMER",
        "COUPON_QUEUE",
        "CURRENCY",
        "PAYMENT_PROVIDER",
        "PRODUCT_CACHE",
    ),
    *("NUM_PROXIES", "FAILED_LOGIN_WINDOW_SECONDS"),
    *("EMAIL_URL", "EMAIL_FROM", "TELEGRAM_BOT_TOKEN", "TELEGRAM_CHAT_ID", "TELEGRAM_API_URL"),
    "NOTIFICATION_RETENTION_DAYS",
    *("ORDER_STOCK_TIMEOUT_SECONDS", "ORDER_PAYMENT_TIMEOUT_SECONDS", "ORDER_CANCEL_WINDOW_HOURS"),
    *(
        "FAILED_MESSAGE_RETRY_SECONDS",
        "FAILED_MESSAGE_RETRY_LIMIT",
        "FOREIGN_DEAD_LETTER_TOPICS",
        "OUTBOX_ALARM_SECONDS",
    ),
)


async def run(folder: Path, *, with_demo: bool, with_parent: bool) -> int:
    """Serve until asked to stop; raises StackError when something does not start, or the demo order fails."""
    if (CHECKOUT / ".env").is_file():
        environ.Env.read_env(CHECKOUT / ".env")
    state = State(folder, durable=True)
    lock = state.lock()
    with StopRequests(with_parent=with_parent) as requests:
        try:
            await _serve(state, lock, requests, with_demo=with_demo)
        except asyncio.CancelledError:
            if requests.received is None:
                raise
    return 0


async def _serve(state: State, lock: StateLock, requests: StopRequests, *, with_demo: bool) -> None:
    output = Output(state.logs)
    # Held from here on: another stack that starts now cannot choose the same port, and while the web is started
    # again its callers wait in line.
    listener = _listen(output)
    port = listener.getsockname()[1]
    address = f"http://{ports.LOOPBACK}:{port}"
    lock.tell(address)
    async with Runner(output, state.pids, held=[lock.descriptor], remove=[state.env_file]) as runner:
        requests.hurry = runner.hurry
        await engines.probe(os.environ)
        embedded = engines.embedded(state, os.environ)
        values = _values(state, {engine.variable: engine.url for engine in embedded}, port)
        environment = {**os.environ, **values, "ENV_FILE": str(state.env_file), "PYTHONUNBUFFERED": "1"}
        groups = await _bring_up(runner, state, embedded, environment)
        state.write_env(values)
        for service in _services(groups, listener, environment):
            runner.keep(service)
        await runner.ready("web", lambda: _answers(f"{address}/readyz"), limit_seconds=_WEB_START_SECONDS)
        if with_demo:
            await demo.place_order(address)
        for service in _celery(state, environment):
            # Last, since it has nothing to do with how soon an order flows.
            runner.keep(service)
        demo.show_addresses(address)
        await asyncio.Event().wait()


async def _bring_up(
    runner: Runner, state: State, embedded: Sequence[engines.Engine], environment: Mapping[str, str]
) -> list[str]:
    """Start the engines, migrate and seed, and return the names of the consumer groups."""
    groups = state.folder / "groups.json"
    prepare = Service("prepare", [sys.executable, "-m", "devstack.prepare", str(groups)], environment)
    database = [engine for engine in embedded if engine.variable == "DATABASE_URL"]
    others = [engine for engine in embedded if engine not in database]

    async def prepare_database() -> None:
        await engines.start(runner, database)
        await runner.run(prepare)

    await all_of(engines.start(runner, others), prepare_database())
    names: list[str] = json.loads(groups.read_text())
    return names


def _listen(output: Output) -> socket.socket:
    given = os.environ.get("PORT")
    if given:
        if not given.isdigit() or not 0 < int(given) < 65536:
            raise StackError(f"PORT={given} is not a port")
        if (listener := ports.listen(int(given))) is None:
            raise StackError(f"PORT={given} is taken by another process")
        return listener
    listener = next(listener for port in range(_FIRST_PORT, 65536) if (listener := ports.listen(port)))
    if (port := listener.getsockname()[1]) != _FIRST_PORT:
        output.say(f"port {_FIRST_PORT} is taken: the web is on {port}")
    return listener


def _values(state: State, urls: Mapping[str, str], port: int) -> dict[str, str]:
    """Return what the environment file holds: what is given comes before what is chosen here, but for TLS."""
    chosen = {**urls, "SECRET_KEY": state.secret("secret_key"), "PORT": str(port), **DEMO_SETTINGS}
    names = (*engines.VARIABLES, *chosen, *SETTINGS)
    given = {name: os.environ[name] for name in names if os.environ.get(name)}
    return chosen | given | WITHOUT_TLS


def _services(groups: list[str], listener: socket.socket, environment: Mapping[str, str]) -> list[Service]:
    """Return what an order needs: the web, the relay, and one consumer for each group, the dead letters' included."""
    socket_number = listener.fileno()
    web = ["-m", "gunicorn", "config.wsgi", "--bind", f"fd://{socket_number}", *WEB_OPTIONS]
    return [
        replace(_python("web", environment, *web), inherits=(socket_number,)),
        _python("relay", environment, "manage.py", "relay_outbox"),
        *(_python(f"consumer-{group}", environment, "manage.py", "run_consumer", group) for group in groups),
    ]


def _celery(state: State, environment: Mapping[str, str]) -> list[Service]:
    """Return what does the due rows: notifications, deadlines, retention."""
    celery = ["-m", "celery", "--quiet", "-A", "config"]
    schedule = ["--schedule", str(state.folder / "celerybeat-schedule"), "--pidfile="]
    return [
        _python("celery-worker", environment, *celery, "worker", "--concurrency", "5", "--loglevel", "INFO"),
        _python("celery-beat", environment, *celery, "beat", *schedule, "--loglevel", "WARNING"),
    ]


def _python(name: str, environment: Mapping[str, str], *arguments: str) -> Service:
    return Service(name, [sys.executable, *arguments], environment)


async def _answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(url, timeout=3.0)).is_success
    except httpx.HTTPError:
        return False
