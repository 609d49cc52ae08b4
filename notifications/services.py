"""Everything that changes notifications. Each function is one transaction.

Consumers write them, each once for an event, a recipient and a channel. Those that are to be sent are rows that fall
due, so nothing is lost with Redis, Celery or a sender: what somebody took and told nothing of is due again when his
lease is over.
"""

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Greatest, Now

from notifications.kinds import Channel, Kind
from notifications.models import Notification, OptOut, Outage
from notifications.texts import write
from outbox.letters.dead_letters import storable

Status = Notification.Status

# Whoever takes notifications to send them has them to himself for so long. Then they are due again: he may be dead.
LEASE_SECONDS = 300
# From one try to the next: doubled each time, from the first to the last of these; then a random part is left out.
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 10, 3600
# After so many tries it waits for a person. They take about two hours.
MAX_ATTEMPTS = 12
# Likewise of a channel that takes nothing, but without an end. Shorter at last where it may be a message's fault.
FIRST_OUTAGE_SECONDS, LAST_OUTAGE_SECONDS, LAST_SILENCE_SECONDS = 1, 60, 15
# So much of what went wrong is kept, in characters.
ERROR_LENGTH = 1000
# Notices that are written by one statement: a post may have very many followers.
CHUNK = 2000


@dataclass(frozen=True)
class Notice:
    """What somebody is to be told, and of which event. `context` is what the text of the kind names."""

    event_id: UUID
    # None: the operators.
    user_id: UUID | None
    kind: Kind
    subject_id: UUID | None = None
    context: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Paid:
    """A payment that succeeded. The amount is in units of `currency`, with two decimals."""

    event_id: UUID
    order_id: UUID
    customer_id: UUID
    amount: str
    currency: str
    at: datetime


@dataclass(frozen=True)
class Posted:
    """A post that was published."""

    event_id: UUID
    post_id: UUID
    author_id: UUID
    author: str
    title: str
    at: datetime


class Person(NamedTuple):
    """How a user is called, and where they can be told something."""

    name: str
    channels: frozenset[str]


@transaction.atomic
def notify(*, notices: Iterable[Notice]) -> None:
    """Tell people, each of one event once on each channel that reaches them and that they have not switched off.

    Raises:
        KeyError: there is no such user, or the context lacks what the text names. Nothing was written.
    """
    remaining = iter(notices)
    while chunk := list(islice(remaining, CHUNK)):
        _write(chunk, _people(notice.user_id for notice in chunk))


@transaction.atomic
def tell_of_payments(*, payments: Sequence[Paid]) -> None:
    """Tell customers, and the operators, of payments.

    Raises:
        KeyError: there is no such customer. Nothing was written.
    """
    people = _people(paid.customer_id for paid in payments)
    notices = []
    for paid in payments:
        said = {"amount": paid.amount, "currency": paid.currency, "at": paid.at.isoformat()}
        for_operators = {**said, "customer": people[paid.customer_id].name}
        notices += [
            Notice(paid.event_id, paid.customer_id, Kind.PAYMENT_SUCCEEDED, paid.order_id, said),
            Notice(paid.event_id, None, Kind.PAYMENT_SUCCEEDED, paid.order_id, for_operators),
        ]
    _write(notices, people)


@transaction.atomic
def tell_of_posts(*, posts: Sequence[Posted]) -> None:
    """Tell authors of their posts, and who followed them at that time.

    Raises:
        KeyError: there is no such author. Nothing was written.
    """
    by_author: dict[UUID, list[Posted]] = {}
    for post in posts:
        by_author.setdefault(post.author_id, []).append(post)

    def notices() -> Iterator[Notice]:
        for post in posts:
            yield Notice(post.event_id, post.author_id, Kind.POST_PUBLISHED, post.post_id, {"title": post.title})
        followers = get_user_model()._default_manager.followers_of(by_author)
        for author_id, follower_id, since in followers.iterator(chunk_size=CHUNK):
            for post in by_author[author_id]:
                if since <= post.at:
                    said = {"author": post.author, "title": post.title}
                    yield Notice(post.event_id, follower_id, Kind.NEW_POST, post.post_id, said)

    notify(notices=notices())


@transaction.atomic
def mark_read(*, user_id: UUID, now: datetime, notification_id: UUID | None = None) -> None:
    """Mark one of a user's notifications as read, or all of them. What was read before keeps its time."""
    unread = Notification.objects.inbox(user_id).unread()
    if notification_id is not None:
        unread = unread.filter(pk=notification_id)
    unread.update(read_at=now)


@transaction.atomic
def set_preferences(*, user_id: UUID, wanted: Mapping[str, Mapping[str, bool]]) -> None:
    """Let a user be told by kind and channel what they want, and leave what is not named as it is."""
    named = {(kind, channel): yes for kind, channels in wanted.items() for channel, yes in channels.items()}
    to_be_told = [Q(kind=kind, channel=channel) for (kind, channel), yes in named.items() if yes]
    if to_be_told:
        OptOut.objects.of(user_id).filter(Q(*to_be_told, _connector=Q.OR)).delete()
    OptOut.objects.bulk_create(
        [OptOut(user_id=user_id, kind=kind, channel=channel) for (kind, channel), yes in named.items() if not yes],
        ignore_conflicts=True,
    )


# ── Sending ───────────────────────────────────────────────────────────────────────────────────────────────────────


@transaction.atomic
def take_due(*, channel: Channel, limit: int) -> list[Notification]:
    """Take what is to be sent on a channel, up to a number of them, for LEASE_SECONDS, each with its user.

    Nobody else takes them meanwhile. Each is to end in `record`. While the channel is paused there are none.
    """
    if Outage.objects.is_paused(channel):
        return []
    ids = Notification.objects.lock_due(channel, limit)
    taken = Notification.objects.filter(pk__in=ids)
    taken.update(due_at=Now() + timedelta(seconds=LEASE_SECONDS), attempts=F("attempts") + 1)
    return list(taken.select_related("user").order_by("attempts", "pk"))


@dataclass
class Results:
    """What became of notifications that were taken together: the ids of those sent; of others, with an error."""

    sent: list[UUID] = field(default_factory=list)
    # Will never be taken.
    refused: dict[UUID, str] = field(default_factory=dict)
    # Not sent, or nobody knows: to be tried again.
    unsent: dict[UUID, str] = field(default_factory=dict)
    # Not tried at all.
    untried: list[UUID] = field(default_factory=list)


@dataclass(frozen=True)
class Trouble:
    """Why a channel is to be left alone, and for how long; None: for longer each time in a row, up to `longest`."""

    error: str
    seconds: float | None = None
    longest: float = LAST_OUTAGE_SECONDS


@transaction.atomic
def record(
    *, channel: Channel, taken: Sequence[Notification], results: Results, trouble: Trouble | None = None
) -> bool:
    """Record what became of notifications that were taken, and how the channel is.

    Whoever took them again since is left alone. Returns whether an outage of the channel is over by it.
    """
    # First, since a message may have been its end, and the trouble the begin of another.
    is_over = bool(results.sent) and end_outage(channel=channel)
    if trouble:
        _pause(channel, trouble)
    # The end of the lease tells it: each taking has another one.
    ours = Notification.objects.filter(status=Status.PENDING, due_at__in={row.due_at for row in taken})
    # Sent is sent, whoever has it now.
    sent = Notification.objects.filter(pk__in=results.sent).exclude(status=Status.SENT)
    sent.update(status=Status.SENT, sent_at=Now(), due_at=None, error="")
    ours.filter(pk__in=results.untried).update(due_at=Now(), attempts=F("attempts") - 1)
    for pk, error in results.refused.items():
        _give_up(ours.filter(pk=pk), error)
    attempts = {row.pk: row.attempts for row in taken}
    for pk, error in results.unsent.items():
        if attempts[pk] >= MAX_ATTEMPTS:
            _give_up(ours.filter(pk=pk), error)
        else:
            seconds = backoff_seconds(attempts[pk], FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS)
            ours.filter(pk=pk).update(due_at=Now() + timedelta(seconds=seconds), error=_kept(error))
    return is_over and trouble is None


def end_outage(*, channel: Channel) -> bool:
    """Take a channel for good again, and return whether it was not."""
    return bool(Outage.objects.filter(pk=channel).delete()[0])


@transaction.atomic
def send_again(*, ids: Collection[UUID]) -> int:
    """Let failed notifications be sent after all, as if they were new. Return how many of these had failed."""
    failed = Notification.objects.filter(pk__in=ids, status=Status.FAILED)
    return failed.update(status=Status.PENDING, due_at=Now(), attempts=0)


def backoff_seconds(times: int, first: float, last: float) -> float:
    """Return the seconds to wait after so many failures in a row: between half of the whole and the whole."""
    # Those that failed together are not all tried again together.
    return min(first * 2.0 ** min(times - 1, 30), last) * random.uniform(0.5, 1)


def _give_up(notifications: Any, error: str) -> None:
    notifications.update(status=Status.FAILED, due_at=None, error=_kept(error))


def _pause(channel: Channel, trouble: Trouble) -> None:
    outage, is_new = Outage.objects.select_for_update().get_or_create(
        pk=channel, defaults={"paused_until": Now(), "error": _kept(trouble.error)}
    )
    failures = outage.failures + (not is_new)
    seconds = trouble.seconds
    if seconds is None:
        seconds = backoff_seconds(failures, FIRST_OUTAGE_SECONDS, trouble.longest)
    # Another one may have been told to wait for longer.
    until: Any = Greatest(F("paused_until"), Now() + timedelta(seconds=seconds))
    Outage.objects.filter(pk=channel).update(failures=failures, error=_kept(trouble.error), paused_until=until)


def _kept(error: str) -> str:
    """Return what is kept of an error, which may be whatever a server has answered."""
    return storable(error)[:ERROR_LENGTH]


# ── Writing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _people(user_ids: Iterable[UUID | None]) -> dict[UUID, Person]:
    """Return users by id."""
    wanted = {user_id for user_id in user_ids if user_id}
    users = get_user_model()._default_manager.filter(pk__in=wanted) if wanted else get_user_model().objects.none()
    return {
        pk: Person(
            name,
            frozenset(
                {Channel.IN_APP} | ({Channel.EMAIL} if email else set()) | ({Channel.TELEGRAM} if chat else set())
            ),
        )
        for pk, name, email, chat in users.values_list("pk", "username", "email", "telegram_chat_id")
    }


def _write(notices: Sequence[Notice], people: Mapping[UUID, Person]) -> None:
    for notice in notices:
        # What cannot be told is found out here, where it becomes a dead letter, and not by its reader.
        write(notice.kind, notice.context, subject_id=notice.subject_id, language=settings.LANGUAGE_CODE)
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        [now] = cursor.fetchone()
    unwanted = set(OptOut.objects.filter(user__in=people).values_list("user_id", "kind", "channel"))
    rows = [
        _row(notice, channel, now)
        for notice in notices
        for channel in (people[notice.user_id].channels if notice.user_id else [Channel.TELEGRAM])
        if (notice.user_id, notice.kind, channel) not in unwanted
    ]
    Notification.objects.bulk_create(rows, ignore_conflicts=True)


def _row(notice: Notice, channel: str, now: datetime) -> Notification:
    is_there = channel == Channel.IN_APP
    return Notification(
        event_id=notice.event_id,
        user_id=notice.user_id,
        channel=channel,
        kind=notice.kind,
        context=notice.context,
        subject_id=notice.subject_id,
        status=Status.SENT if is_there else Status.PENDING,
        created_at=now,
        sent_at=now if is_there else None,
        due_at=None if is_there else now,
    )
