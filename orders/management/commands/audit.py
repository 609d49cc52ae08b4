"""Say whether stock, money, coupons and orders agree: manage.py audit"""

import json
from argparse import ArgumentParser
from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from orders import audit


class Command(BaseCommand):
    help = "Check stock, money, coupons, orders and the outbox by one snapshot; exit 1 when something is off."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--grace-seconds",
            type=int,
            default=audit.GRACE_SECONDS,
            help="what spans apps may lag this long (default: %(default)s)",
        )
        parser.add_argument("--strict", action="store_true", help="fail for what is in flight too")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *, grace_seconds: int, strict: bool, **options: Any) -> None:
        findings = audit.find(now=timezone.now(), grace=timedelta(seconds=grace_seconds))
        off = [finding for finding in findings if not finding.in_flight]
        in_flight = [finding for finding in findings if finding.in_flight]
        ok = not findings if strict else not off
        if options["json"]:
            self.stdout.write(
                json.dumps(
                    {
                        "ok": ok,
                        "findings": [asdict(finding) for finding in off],
                        "in_flight": [asdict(finding) for finding in in_flight],
                    }
                )
            )
        else:
            for finding in off:
                self.stdout.write(str(finding))
            for check, count in Counter(finding.check for finding in in_flight).items():
                self.stdout.write(f"in flight: {count} × {check}")
        if not ok:
            raise CommandError(f"{len(off)} off, {len(in_flight)} in flight")
        if not options["json"]:
            self.stdout.write(f"All {len(audit.CHECKS)} checks hold; {len(in_flight)} in flight.")
