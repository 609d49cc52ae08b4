"""The command line. Run with: make bench (all parts), or make bench ARGS="relay --events 50000" (one of them)"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from rich.console import Console

from benchmarks.bench import RESULTS, Bench, prepared
from benchmarks.report import Report, save, show

ROUNDS = 3


@dataclass(frozen=True)
class Part:
    """A part of the benchmarks: its module in benchmarks.parts, what its size counts, and how large it is."""

    name: str
    help: str
    unit: str
    size: int

    @property
    def run(self) -> Callable[[Bench, Report, int], None]:
        run: Callable[[Bench, Report, int], None] = import_module(f"benchmarks.parts.{self.name}").run
        return run


PARTS = (
    Part("relay", "the relay beside a bare pipelined loop and django-outbox-pattern", "events", 300_000),
    Part("relays", "one, two and four relays, and the order of each key", "events", 300_000),
    Part("million", "a large backlog: memory, and the rate of the first and the last", "events", 1_000_000),
    Part("latency", "commit to consumer beside a bare LISTEN loop", "seconds", 10),
    Part("publish", "publish() beside a bare INSERT", "seconds", 1),
    Part("consumer", "the consumer beside bare loops, in bulk and one at a time", "events", 100_000),
    Part("analytics", "the projections beside a handler for one event at a time, and a rebuild", "events", 100_000),
    Part("idle", "what an idle relay asks PostgreSQL", "seconds", 10),
    Part("garbage", "a tenth of good records among garbage", "events", 110_000),
    Part("chaos", "everything killed in turn under load", "seconds", 120),
    Part("saga", "orders from HTTP to COMPLETED beside a chain of Celery tasks", "orders", 3_000),
    Part("soak", "orders that come to every end, and what the audit says of them", "orders", 20_000),
    Part(
        "fanout", "orders while notifications is stopped, and each message sent once when it is back", "orders", 10_000
    ),
    Part("orders_api", "POST orders/ beside a bare view without an outbox", "seconds", 10),
    Part("coupons", "coupon requests decided beside one at a time, and taken beside POST orders/", "requests", 20_000),
    Part("products", "GET products/{sku}/ from the cache beside PostgreSQL", "seconds", 10),
)


def main() -> int:
    """Run, show and write what was asked for. Return 1 where something was lost, doubled or out of order, else 0."""
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 140)
    if not {"DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL"} <= os.environ.keys():
        console.print("benchmarks: there are no engines; run them by make bench", style="red")
        return 2
    chosen = [part for part in PARTS if arguments.part in (None, part.name)]
    report = Report()
    with prepared(console, arguments.rounds) as bench:
        bench.logs = arguments.output / "log"
        for part in chosen:
            size = arguments.size or max(1, round(part.size * arguments.scale))
            console.print(f"[bold]{part.name}[/]: {part.help} ({size:,} {part.unit})", highlight=False)
            part.run(bench, report, size)
    show(report, console)
    for file in save(report, arguments.output):
        console.print(f"written: {file}", highlight=False)
    return int(any(aim.is_error for aim in report.aims))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.description = "Measures Orderbox and its outbox beside baselines of the same run."
    parser.epilog = "\n".join(f"{part.name:11}{part.help} ({part.size:,} {part.unit})" for part in PARTS)
    parser.add_argument("part", nargs="?", choices=[part.name for part in PARTS], help="one part (default: all)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--events", dest="size", type=_positive, metavar="N", help="events in a run of the part")
    size.add_argument("--orders", dest="size", type=_positive, metavar="N", help="orders in a run of the part")
    size.add_argument("--requests", dest="size", type=_positive, metavar="N", help="requests in a run of the part")
    size.add_argument("--seconds", dest="size", type=_positive, metavar="N", help="seconds of a run of the part")
    parser.add_argument("--rounds", type=_positive, default=ROUNDS, metavar="N", help="runs of each (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="make all parts smaller or larger")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER", help="where the results go")
    arguments = parser.parse_args()
    if arguments.size and not arguments.part:
        parser.error(
            "--events, --orders, --requests and --seconds are for one part; all together are made smaller by --scale"
        )
    return arguments


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return number


if __name__ == "__main__":
    sys.exit(main())
