"""manage.py consumer_lag: how far the consumer groups and the relay are behind."""

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connections, router

from outbox import conf
from outbox.management.trouble import told_in_a_line
from outbox.models import OutboxEvent
from outbox.registry import RELAY, groups
from outbox.watching.gauges import Standing, measure
from outbox.watching.lag import GroupLag, LagReader
from outbox.watching.telling import COLUMNS, cells, seconds_told, unpublished_told


class Command(BaseCommand):
    help = "Tell how far each consumer group is behind in each partition, and what waits to be sent."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        with told_in_a_line():
            with connections[router.db_for_read(OutboxEvent)].cursor() as cursor:
                standing = measure(cursor)
            with LagReader() as reader:
                lags = reader.read(groups())
        if options["json"]:
            document = {"relay": _relay(standing), "groups": [_group(lag, standing) for lag in lags]}
            self.stdout.write(json.dumps(document, indent=2))
        else:
            self._tell(standing, lags)

    def _tell(self, standing: Standing, lags: Sequence[GroupLag]) -> None:
        for lag in lags:
            self.stdout.write(_headline(lag, standing))
            for line in _table([cells(part) for part in lag.partitions]):
                self.stdout.write(f"  {line}")
            self.stdout.write("")
        relay = _relay(standing)
        self.stdout.write(
            f"relay: {unpublished_told(standing)} events unpublished, "
            f"the oldest for {standing.oldest_age_seconds:.1f} s, {relay['open_letters']} open dead letters"
        )
        if standing.alarm:
            self.stdout.write(f"WARNING: that is longer than {conf.get('ALARM_SECONDS')} s: does the relay run?")


def _relay(standing: Standing) -> dict[str, Any]:
    return {
        "unpublished": standing.unpublished,
        "oldest_unpublished_age_seconds": round(standing.oldest_age_seconds, 3),
        "alarm": standing.alarm,
        "open_letters": standing.open_letters_of(RELAY),
    }


def _group(lag: GroupLag, standing: Standing) -> dict[str, Any]:
    halted_at = standing.halted_at.get(lag.group)
    return {
        "group": lag.group,
        "state": lag.state,
        "members": lag.members,
        "records": lag.records,
        "seconds": _rounded(lag.seconds),
        "halted_at": halted_at.isoformat() if halted_at else None,
        "open_letters": standing.open_letters_of(lag.group),
        "parked_events": standing.parked_events.get(lag.group, 0),
        "parked_keys": standing.parked_keys.get(lag.group, 0),
        "partitions": [{**asdict(part), "seconds": _rounded(part.seconds)} for part in lag.partitions],
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _headline(lag: GroupLag, standing: Standing) -> str:
    group = _group(lag, standing)
    behind = f"{lag.records:,} records and {seconds_told(lag.seconds)} s behind"
    text = f"{lag.group}: {lag.state}, {lag.members} members, {behind}"
    if group["open_letters"]:
        text += f", {group['open_letters']} open dead letters"
    if group["parked_keys"]:
        text += f", {group['parked_events']} events of {group['parked_keys']} keys parked"
    if group["halted_at"]:
        text += f", HALTED since {group['halted_at']}"
    return text


def _table(rows: list[list[str]]) -> list[str]:
    """Return rows below a header, each column as wide as its widest cell; all but the outer ones to the right."""
    rows = [COLUMNS, *rows]
    widths = [max(len(row[number]) for row in rows) for number in range(len(COLUMNS))]
    return [
        "  ".join(
            cell.ljust(width) if number in {0, len(widths) - 1} else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
