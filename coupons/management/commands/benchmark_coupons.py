"""Compare the queues of coupons under load: manage.py benchmark_coupons"""

import json
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from coupons.benchmark import place, running, showing
from coupons.benchmark.figures import Figures
from coupons.benchmark.trouble import Stopped, Trouble
from coupons.models import MAX_QUANTITY
from outbox.management.trouble import told_in_a_line
from outbox.worker import Stop, stop_on_signals

QUEUES = ("kafka", "redis")
# Where the output is no terminal, whose width is known.
WIDTH = 100
# From Ctrl-C until all is deleted: an engine that hangs must not keep us.
CLEAN_UP_SECONDS = 90.0


class Command(BaseCommand):
    help = (
        "Let users ask for coupons all at once, by each queue in turn, and tell how long it took and whether exactly "
        "the first ones got one. Runs on a database, topics and keys of its own; exits with 1 when something is wrong."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--users", type=_up_to(100_000), default=1_000, metavar="N", help="who ask (%(default)s)")
        parser.add_argument(
            "--quantity", type=_up_to(MAX_QUANTITY), default=100, metavar="N", help="coupons (%(default)s)"
        )
        parser.add_argument("--queue", type=_queues, default=QUEUES, help="kafka, redis or both (kafka,redis)")
        parser.add_argument(
            "--consumers", type=_up_to(64), default=1, metavar="N", help="processes that decide (%(default)s)"
        )
        parser.add_argument(
            "--connections", type=_up_to(1_000), default=64, metavar="N", help="over which they ask (%(default)s)"
        )
        parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the order in which they ask (1)")
        parser.add_argument("--output", type=Path, metavar="FOLDER", help="write results.json and results.md there too")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, queue: Sequence[str], seed: int, output: Path | None, **options: Any) -> None:
        sizes = {name: options[name] for name in ("users", "quantity", "consumers", "connections")}
        with stop_on_signals(deadline_seconds=CLEAN_UP_SECONDS) as stop, told_in_a_line():
            try:
                found = self._measure(queue, stop, seed=seed, **sizes)
            except Stopped:
                raise CommandError("stopped", returncode=128 + signal.SIGINT) from None
            except Trouble as trouble:
                raise CommandError(str(trouble)) from trouble
            except redis.RedisError as error:
                raise CommandError(f"Redis: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps(showing.document(found, seed)))
        else:
            showing.show(found, Console(width=None if sys.stdout.isatty() else WIDTH))
        if output:
            for file in showing.save(found, seed, output):
                self._say(f"written: {file}")
        if unsound := [figures.queue for figures in found if not figures.is_sound]:
            raise CommandError(f"something is wrong with {' and '.join(unsound)}")

    def _measure(self, queues: Sequence[str], stop: Stop, **sizes: int) -> list[Figures]:
        place.probe()
        with place.migrated() as model:
            # Whoever kills this process has to delete them.
            self._say(f"What is made for it has names that begin with {model.database}, and is deleted at the end.")
            task = running.prepare(model, **sizes)
            found = []
            for queue in queues:
                self._say(f"{sizes['users']:,} users ask for {sizes['quantity']:,} coupons by {queue}.")
                with place.copied(model, queue) as there:
                    found.append(running.run(task, there, queue, stop))
        return found

    def _say(self, text: str) -> None:
        """Tell the person who waits what is going on."""
        self.stderr.write(text, self.style.NOTICE)


def _up_to(most: int) -> Any:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not 0 < int(text) <= most:
            raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to {most:,}")
        return int(text)

    return read


def _queues(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in QUEUES]:
        raise ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(QUEUES)}")
    return list(dict.fromkeys(names))
