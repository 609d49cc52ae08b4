"""manage.py run_consumer GROUP: apply a consumer group's events, until stopped."""

import sys
from argparse import SUPPRESS, ArgumentTypeError
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from prometheus_client.multiprocess import MultiProcessCollector

from outbox.consuming import group_state
from outbox.consuming.applying import Halted
from outbox.consuming.beside import Both, Worker
from outbox.consuming.children import PARENT_DEADLINE_SECONDS, Children, reporting
from outbox.consuming.consumer import BATCH_SIZE, Consumer
from outbox.letters.worker import DeadLetterWorker
from outbox.management.trouble import told_in_a_line
from outbox.registry import DEAD_LETTERS, group_of, groups, handlers_of
from outbox.watching.gauges import Gauges
from outbox.watching.health import Collector, add_health_argument, process_metrics, serve
from outbox.worker import Stop, settle, stop_on_signals


def _with_lag(group: str) -> str | None:
    """Return the group whose lag is measured: not the worker that retries, which is none."""
    return None if group == DEAD_LETTERS else group


def positive(text: str) -> int:
    """Return a whole number above zero."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


class Command(BaseCommand):
    help = "Apply the events of a consumer group. SIGTERM ends it after the batch in hand."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("group", help=f"one of {', '.join((*groups(), DEAD_LETTERS))}")
        parser.add_argument(
            "--processes", type=positive, default=1, metavar="N", help="work as N members of the group (%(default)s)"
        )
        parser.add_argument(
            "--batch-size", type=positive, default=BATCH_SIZE, help="records in one transaction at most (%(default)s)"
        )
        parser.add_argument("--until-idle", action="store_true", help="exit when all that is there has been applied")
        parser.add_argument("--resume", action="store_true", help="first lift the halt of the group")
        # Given by a parent process to those that it starts: see outbox/consuming/children.py.
        parser.add_argument("--child", type=int, help=SUPPRESS)
        add_health_argument(parser)

    def handle(self, *args: Any, group: str, processes: int, resume: bool, child: int | None, **options: Any) -> None:
        try:
            if group != DEAD_LETTERS:
                handlers_of(group)
        except LookupError as error:
            raise CommandError(error.args[0]) from error
        if child is not None:
            self._run_child(group, child, **options)
            return
        if resume:
            with told_in_a_line():
                resumed = group_state.resume(group)
            self.stdout.write(f"{group} is resumed" if resumed else f"{group} was not halted")
        if processes > 1:
            self._run_parent(group, processes, **options)
        else:
            self._run_alone(group, **options)

    def _run_alone(self, group: str, *, health_port: int | None, **options: Any) -> None:
        with stop_on_signals() as stop, Gauges(group=_with_lag(group)) as gauges:
            worker = self._worker(group, stop, **options)
            metrics: list[Collector] = [process_metrics(), gauges]
            with serve(health_port, hung=worker.hung, not_ready=worker.not_ready, metrics=metrics):
                self._run(worker)

    def _run_child(self, group: str, child: int, **options: Any) -> None:
        with stop_on_signals() as stop:
            worker = self._worker(group, stop, **options)
            with reporting(child, hung=worker.hung, not_ready=worker.not_ready):
                self._run(worker)

    def _run_parent(
        self, group: str, processes: int, *, health_port: int | None, until_idle: bool, **options: Any
    ) -> None:
        if Path(__file__).stem not in sys.orig_argv:
            raise CommandError("--processes is for the command line: the processes are started by that line again")
        with (
            stop_on_signals(deadline_seconds=PARENT_DEADLINE_SECONDS) as stop,
            TemporaryDirectory(prefix="outbox-metrics-") as folder,
            Gauges(group=_with_lag(group)) as gauges,
        ):
            children = Children(
                processes, stop=stop, until_idle=until_idle, metrics=Path(folder) if health_port else None
            )
            metrics: list[Collector] = [MultiProcessCollector(None, folder), gauges]
            with serve(health_port, hung=children.hung, not_ready=children.not_ready, metrics=metrics):
                failed = children.run()
        if failed and not stop.requested:
            raise CommandError(f"{failed} of {processes} processes failed")

    def _worker(self, group: str, stop: Stop, *, batch_size: int, until_idle: bool, **options: Any) -> Worker:
        if group == DEAD_LETTERS:
            try:
                return DeadLetterWorker(stop=stop, until_idle=until_idle)
            except LookupError as error:
                raise CommandError(f'OUTBOX["FOREIGN_DEAD_LETTER_TOPICS"]: {error.args[0]}') from error
        consumer = Consumer(group, stop=stop, batch_size=batch_size, until_idle=until_idle)
        beside = group_of(group).beside
        return Both(consumer, beside(stop=stop, until_idle=until_idle), stop=stop) if beside else consumer

    def _run(self, worker: Worker) -> None:
        settle()
        try:
            worker.run()
        except Halted as error:
            raise CommandError(f"{error}; --resume lifts the halt") from error
