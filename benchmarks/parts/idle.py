"""What an idle relay asks of PostgreSQL."""

import os
import time
from urllib.parse import urlsplit, urlunsplit

import psycopg

from benchmarks import backlog
from benchmarks.bench import Bench
from benchmarks.parts.relay import WARM_UP_EVENTS
from benchmarks.report import Report

PART = "idle"
# PostgreSQL's processes add what they did to the statistics once a second, or later.
STATISTICS_SECONDS = 2.0
# "At most a few queries a second".
FEW = 5

TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s"


def run(bench: Bench, report: Report, seconds: int) -> None:
    """Count the transactions of a relay that has nothing to do: each of its queries is one."""
    database = bench.db.info.dbname
    # From another database, so that the question is not part of the answer.
    outside = urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path="/postgres"))
    backlog.empty(bench.db)
    rates = []
    with bench.installation() as place, place.relays() as [worker], psycopg.connect(outside, autocommit=True) as db:
        backlog.pass_through(bench.db, [worker], place.topic, WARM_UP_EVENTS)
        for _ in range(bench.rounds):
            time.sleep(STATISTICS_SECONDS)
            before = transactions(db, database)
            time.sleep(seconds)
            rates.append((transactions(db, database) - before) / seconds)
            worker.watch()
    row = report.add(PART, "transactions of an idle relay", "per second", rates)
    report.aim(PART, "queries per second", row.median, at_most=FEW)


def transactions(db: psycopg.Connection[tuple[int]], database: str) -> int:
    """Return how many transactions a database has seen."""
    found = db.execute(TRANSACTIONS, (database,)).fetchone()
    assert found is not None
    return found[0]
