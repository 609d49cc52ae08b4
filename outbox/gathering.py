"""Gathering: what the handlers of a batch publish is written by one statement, after the last of them.

To write each event by itself would be half of what a handler costs that takes one event at a time.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:
    from outbox.publishing import OutboxRow

# Statements that set, keep and undo a savepoint (https://www.postgresql.org/docs/current/sql-savepoint.html).
OF_SAVEPOINTS = re.compile(
    r"\s*(?:(?P<set>SAVEPOINT)|(?P<keep>RELEASE)(?:\s+SAVEPOINT)?"
    r'|ROLLBACK(?:\s+(?:WORK|TRANSACTION))?\s+TO(?:\s+SAVEPOINT)?)\s+("(?P<quoted>[^"]+)"|(?P<bare>\w+))',
    re.IGNORECASE,
)


class Gathered:
    """Rows to be written; what is published after a savepoint goes when the transaction is rolled back to it."""

    def __init__(self) -> None:
        self.rows: list[OutboxRow] = []
        # The savepoints that are set, the last one at the end, and how many rows there were before each.
        self._savepoints: list[tuple[str, int]] = []

    def execute(self, run: Callable[..., Any], sql: Any, *rest: Any) -> Any:
        """Follow the statements of a connection, as its execute_wrapper."""
        outcome = run(sql, *rest)
        if isinstance(sql, str) and (found := OF_SAVEPOINTS.match(sql)):
            name = found["quoted"] or found["bare"].lower()
            if found["set"]:
                self._savepoints.append((name, len(self.rows)))
            elif found["keep"]:
                del self._savepoints[max(self._place(name), 0) :]
            else:
                place = self._place(name)
                del self.rows[self._savepoints[place][1] if place >= 0 else 0 :]
                # It is still set, and can be gone back to again.
                del self._savepoints[place + 1 :]
        return outcome

    def _place(self, name: str) -> int:
        """Return where the last savepoint of a name is; -1: it was set before all that is here."""
        names = [savepoint for savepoint, _ in self._savepoints]
        return len(names) - 1 - names[::-1].index(name) if name in names else -1


_gathered: ContextVar[Gathered | None] = ContextVar("outbox_gathered", default=None)


@contextmanager
def gathering(db: BaseDatabaseWrapper) -> Iterator[Gathered]:
    """Gather what the block publishes in the open transaction of `db`, instead of writing it."""
    gathered = Gathered()
    token = _gathered.set(gathered)
    try:
        with db.execute_wrapper(gathered.execute):
            yield gathered
    finally:
        _gathered.reset(token)


def gather(rows: Sequence["OutboxRow"]) -> bool:
    """Take rows in, to be written later; return whether anybody gathers."""
    gathered = _gathered.get()
    if gathered is None:
        return False
    gathered.rows += rows
    return True
