"""manage.py apply_retention: forget what need not be remembered any more, that of the outbox and the rest."""

from typing import Any

from config import retention
from outbox.management.commands import apply_retention
from outbox.management.trouble import told_in_a_line


class Command(apply_retention.Command):
    """Stands in for the outbox's own, since config comes first in INSTALLED_APPS."""

    help = f"{apply_retention.Command.help} Delete old answers under an Idempotency-Key, expired tokens and sessions."

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        with told_in_a_line():
            deleted = retention.apply()
        for name, number in deleted.items():
            self.stdout.write(f"deleted {number} {name}")
