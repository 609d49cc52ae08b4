"""What a person does to dead letters. Each act and its line in Django's log commit together."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import takewhile
from typing import Any

import msgspec
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import router, transaction
from django.db.models import QuerySet

from outbox.admin.pages import what_happened
from outbox.letters import retrying
from outbox.letters.dead_letters import storable
from outbox.letters.retrying import DryRun, InvalidEdit, Outcome, Refused
from outbox.models import FailedMessage
from outbox.transactions import NotApplied

# The key of AUTH_USER_MODEL, whatever that is in the project.
UserId = Any

# Letters that one request retries or discards; a request must end before the web server loses its patience.
RETRY_LIMIT, DISCARD_LIMIT = 100, 1_000
# Letters that are made due in one transaction.
DUE_CHUNK = 1_000
# Characters that the log keeps of a value before an edit and after it, and of what is the same around the change.
CHANGE_LIMIT, AROUND = 1_000, 40
# Different refusals that a message after an act on many letters tells.
REFUSALS_SHOWN = 3

# What merge() reads and writes numbers with: as they are, whatever their size.
_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True)
class Act:
    """What came of an act: a sentence, and whether the handler raised again."""

    told: str
    failed: bool = False

    @classmethod
    def of(cls, done: str, outcome: Outcome, more: str = "") -> "Act":
        if outcome.error:
            return cls(f"{done}: failed again: {what_happened(outcome.error)}{more}", failed=True)
        return cls(f"{done}: applied{_released(outcome.released)}.{more}")


def _released(count: int) -> str:
    return f", and {count} parked event{'s' if count != 1 else ''} after it" if count else ""


def retry(user_id: UserId, letter_id: int) -> Act:
    """Retry a letter. Raises Refused and Outage, as the other acts do."""
    return _logged(user_id, letter_id, lambda letter: Act.of("Retried", retrying.retry(letter_id)))


def edit(user_id: UserId, letter_id: int, change: Callable[[bytes], bytes]) -> Act:
    """Save what `change` makes of a letter's value, and retry it.

    Raises:
        InvalidEdit: the group's handler cannot take the value. Nothing was saved.
    """

    def act(letter: FailedMessage) -> Act:
        before = bytes(letter.value or b"")
        after = change(before)
        outcome = retrying.edit_and_retry(letter_id, value=after)
        difference = "Nothing was changed." if after == before else _difference(before, after)
        return Act.of("Edited and retried", outcome, f" {difference}")

    return _logged(user_id, letter_id, act)


def discard(user_id: UserId, letter_id: int, reason: str) -> Act:
    """Discard a letter."""

    def act(letter: FailedMessage) -> Act:
        released = retrying.discard(letter_id, reason=reason)
        return Act(f"Discarded{_released(released)}. Reason: {reason}")

    return _logged(user_id, letter_id, act)


def _logged(user_id: UserId, letter_id: int, act: Callable[[FailedMessage], Act]) -> Act:
    with transaction.atomic(using=router.db_for_write(FailedMessage)):
        letter = FailedMessage.objects.filter(pk=letter_id).first()
        if letter is None:
            raise Refused(f"Letter {letter_id} is not there any more.")
        done = act(letter)
        log(user_id, [letter], done.told)
    return done


def log(user_id: UserId, rows: Iterable[Any], message: str) -> None:
    """Write to Django's log what a user did to rows."""
    LogEntry.objects.log_actions(user_id, list(rows), CHANGE, storable(message))


def _difference(before: bytes, after: bytes) -> str:
    """Return what an edit changed, with a little around it."""
    old, new = before.decode(errors="backslashreplace"), after.decode(errors="backslashreplace")
    start = _alike(old, new)
    end = _alike(old[start:][::-1], new[start:][::-1])

    def part(text: str) -> str:
        first, last = max(start - AROUND, 0), min(len(text) - end + AROUND, len(text))
        shown = text[first : min(last, first + CHANGE_LIMIT)]
        return f"{'…' if first else ''}{shown}{'…' if first + len(shown) < len(text) else ''}"

    return f"Before: {part(old)} After: {part(new)}"


def _alike(one: str, other: str) -> int:
    """Return in how many characters two texts begin alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def compact(text: str) -> bytes:
    """Return JSON without the white space by which a person reads it; any other text as it is."""
    with suppress(ValueError, RecursionError):
        text = msgspec.json.format(text, indent=-1)
    return text.encode()


def merge(value: bytes, patch: dict[str, Any]) -> bytes:
    """Return a value changed by a JSON merge patch (RFC 7396).

    Raises:
        InvalidEdit: the value is no JSON.
    """

    def merged(target: Any, patch: Any) -> Any:
        if not isinstance(patch, dict):
            return patch
        target = dict(target) if isinstance(target, dict) else {}
        for name, part in patch.items():
            if part is None:
                target.pop(name, None)
            else:
                target[name] = merged(target.get(name), part)
        return target

    try:
        return _encoder.encode(merged(_decoder.decode(value), patch))
    except (ValueError, RecursionError) as error:
        raise InvalidEdit(f"The value is no JSON: {error}") from error


def read_patch(text: str) -> dict[str, Any]:
    """Return a merge patch.

    Raises:
        ValueError: it is no JSON object.
    """
    try:
        patch = _decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"This is no JSON: {error}") from error
    if not isinstance(patch, dict) or not patch:
        raise ValueError("This is no JSON object with what is to be changed.")
    return patch


@dataclass
class Report:
    """What came of an act on many letters."""

    done: int = 0
    failed: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    more: str = ""

    def __str__(self) -> str:
        parts = [f"{self.done} done"]
        if self.failed:
            parts.append(f"{self.failed} failed again")
        if refused := self.refusals.total():
            reasons = " ".join(reason for reason, _ in self.refusals.most_common(REFUSALS_SHOWN))
            parts.append(f"{refused} refused ({reasons})")
        return f"{', '.join(parts)}. {self.more}".strip()


def oldest(letters: QuerySet[FailedMessage]) -> list[int]:
    """Return the ids of the open ones among the letters, the oldest first."""
    return list(letters.filter(status__in=FailedMessage.OPEN).order_by("id").values_list("id", flat=True))


def retry_all(user_id: UserId, letters: QuerySet[FailedMessage]) -> Report:
    """Retry letters, the oldest first; those beyond RETRY_LIMIT are made due for the worker of dead letters."""
    ids = oldest(letters)
    report = _each(ids[:RETRY_LIMIT], lambda letter_id: retry(user_id, letter_id))
    starts = range(RETRY_LIMIT, len(ids), DUE_CHUNK)
    if due := sum(_make_due(user_id, ids[start : start + DUE_CHUNK]) for start in starts):
        report.more = f"{due} more are due now: the worker of dead letters takes them."
    return report


def _make_due(user_id: UserId, ids: Sequence[int]) -> int:
    with transaction.atomic(using=router.db_for_write(FailedMessage)):
        letters = FailedMessage.objects.open().filter(pk__in=ids).defer("value", "headers", "error")
        locked = list(letters.order_by("id").select_for_update())
        made = retrying.make_due(FailedMessage.objects.filter(pk__in=[letter.pk for letter in locked]))
        log(user_id, locked, "Made due for the worker of dead letters.")
    return made


def edit_all(user_id: UserId, letters: QuerySet[FailedMessage], patch: dict[str, Any]) -> Report:
    """Change the values of letters by a merge patch and retry them, the oldest first, at most RETRY_LIMIT."""
    ids = oldest(letters)

    def change(value: bytes) -> bytes:
        return merge(value, patch)

    return _each(ids[:RETRY_LIMIT], lambda letter_id: edit(user_id, letter_id, change), left=ids[RETRY_LIMIT:])


def discard_all(user_id: UserId, letters: QuerySet[FailedMessage], reason: str) -> Report:
    """Discard letters, the oldest first, at most DISCARD_LIMIT."""
    ids = oldest(letters)
    return _each(ids[:DISCARD_LIMIT], lambda letter_id: discard(user_id, letter_id, reason), left=ids[DISCARD_LIMIT:])


def _each(ids: Sequence[int], act: Callable[[int], Act], left: Sequence[int] = ()) -> Report:
    report = Report(more=f"{len(left)} more are left as they are: do it again for those." if left else "")
    for letter_id in ids:
        try:
            done = act(letter_id)
        except Refused as refusal:
            report.refusals[str(refusal)] += 1
        except NotApplied as trouble:
            report.more = f"Then it was not possible any more: {trouble}"
            break
        else:
            report.failed += done.failed
            report.done += not done.failed
    return report


def dry_run_all(letters: QuerySet[FailedMessage], patch: dict[str, Any] | None = None) -> list[tuple[int, str]]:
    """Return by letter what a retry would do, or why there can be none; the oldest first, at most RETRY_LIMIT."""
    outcomes = []
    for letter in letters.filter(pk__in=oldest(letters)[:RETRY_LIMIT]).order_by("id").only("value").iterator(1):
        try:
            value = None if patch is None else merge(bytes(letter.value or b""), patch)
            outcomes.append((letter.pk, foretold(retrying.dry_run(letter.pk, value=value))))
        except Refused as refusal:
            outcomes.append((letter.pk, str(refusal)))
    return outcomes


def foretold(outcome: DryRun) -> str:
    """Return in a line what a dry run found."""
    if outcome.error:
        return f"Raises {what_happened(outcome.error)}"
    published = ", ".join(type for type, _, _ in outcome.published)
    return f"Would be applied, and publishes {published or 'nothing'}"
