"""Gathering: what the handlers of a batch publish is written by one statement, after the last of them.

To write each event by itself would be half of what a handler costs that takes one event at a time.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox.publishing import OutboxRow, gathered, write

# Statements that set, keep and undo a savepoint (https://www.postgresql.org/docs/current/sql-savepoint.html).
OF_SAVEPOINTS = re.compile(
    r"\s*(?:(?P<set>SAVEPOINT)|(?P<keep>RELEASE)(?:\s+SAVEPOINT)?"
    r'|ROLLBACK(?:\s+(?:WORK|TRANSACTION))?\s+TO(?:\s+SAVEPOINT)?)\s+("(?P<quoted>[^"]+)"|(?P<bare>\w+))',
    re.IGNORECASE,
)


class Savepoints:
    """Follows the savepoints of a transaction: rows that were gathered after one go when it is undone."""

    def __init__(self, rows: list[OutboxRow]) -> None:
        self._rows = rows
        # Those that are set, the last one at the end, and how many rows there were before each.
        self._set: list[tuple[str, int]] = []

    def execute(self, run: Callable[..., Any], sql: Any, *rest: Any) -> Any:
        """Follow the statements of a connection, as its execute_wrapper."""
        outcome = run(sql, *rest)
        if isinstance(sql, str) and (found := OF_SAVEPOINTS.match(sql)):
            name = found["quoted"] or found["bare"].lower()
            if found["set"]:
                self._set.append((name, len(self._rows)))
            elif found["keep"]:
                del self._set[max(self._place(name), 0) :]
            else:
                place = self._place(name)
                del self._rows[self._set[place][1] if place >= 0 else 0 :]
                # It is still set, and can be gone back to again.
                del self._set[place + 1 :]
        return outcome

    def _place(self, name: str) -> int:
        """Return where the last savepoint of a name is; -1: it was set before all that is here."""
        names = [savepoint for savepoint, _ in self._set]
        return len(names) - 1 - names[::-1].index(name) if name in names else -1


@contextmanager
def gathering(db: BaseDatabaseWrapper) -> Iterator[list[OutboxRow]]:
    """Write what the block publishes, in the open transaction of `db`, when it ends; give the rows as they stand."""
    rows: list[OutboxRow] = []
    token = gathered.set((db, rows))
    try:
        with db.execute_wrapper(Savepoints(rows).execute):
            yield rows
    finally:
        gathered.reset(token)
    if rows:
        write(rows)
