"""Everything that changes users, their tokens and whom they follow. Each function is one transaction."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth import authenticate
from django.contrib.auth.models import update_last_login
from django.db import IntegrityError, transaction
from knox.models import AuthToken

import notifications.services
from accounts.events import UserCreated
from accounts.models import Follow, User
from outbox import publish


class Taken(Exception):
    """Somebody has the username or the e-mail address already. `fields` names which."""

    def __init__(self, fields: set[str]) -> None:
        super().__init__(", ".join(sorted(fields)))
        self.fields = fields


class InvalidCredentials(Exception):
    """No active user has this name and this password."""


class WrongPassword(Exception):
    """The password given as the user's present one is not."""


class FollowsThemself(Exception):
    """Somebody is to follow who they are."""


@transaction.atomic
def register(*, username: str, email: str, password: str, language: str = User.Language.ENGLISH) -> User:
    """Create a user. The password was validated before.

    Publishes UserCreated.

    Raises:
        Taken: somebody has the username or the e-mail address.
    """
    user = User(username=User.normalize_username(username), email=email, language=language)
    user.set_password(password)
    return add(user=user)


@transaction.atomic
def add(*, user: User) -> User:
    """Save a new user that somebody else made, as the admin's form does.

    Publishes UserCreated.

    Raises:
        Taken: somebody has the username or the e-mail address.
    """
    _save(user)
    publish(UserCreated(user_id=user.id, username=user.username, email=user.email, language=user.language))
    return user


@transaction.atomic
def update_profile(
    *,
    user_id: UUID,
    email: str | None = None,
    language: str | None = None,
    telegram_chat_id: str | None = None,
    notification_preferences: Mapping[str, Mapping[str, bool]] | None = None,
) -> User:
    """Change what is not None. Of preferences, by kind and channel, those that are named.

    Raises:
        Taken: somebody else has the e-mail address.
    """
    changes = {"email": email, "language": language, "telegram_chat_id": telegram_chat_id}
    user = update_user(user_id=user_id, **{name: value for name, value in changes.items() if value is not None})
    if notification_preferences:
        notifications.services.set_preferences(user_id=user_id, wanted=notification_preferences)
    return user


@transaction.atomic
def update_user(*, user_id: UUID, **changes: Any) -> User:
    """Give a user's fields new values, validated before, and leave the others to who changes them meanwhile.

    Raises:
        Taken: somebody else has the username or the e-mail address.
    """
    user = User.objects.select_for_update().get(pk=user_id)
    many = {name: changes.pop(name) for name in ("groups", "user_permissions") if name in changes}
    for name, value in changes.items():
        setattr(user, name, value)
    _save(user, update_fields=list(changes))
    for name, rows in many.items():
        getattr(user, name).set(rows)
    return user


@transaction.atomic
def log_in(*, username: str, password: str) -> tuple[str, datetime]:
    """Return a new token and the time at which it expires. Only the token's hash is stored.

    Raises:
        InvalidCredentials: no active user has this name and this password.
    """
    user = authenticate(username=username, password=password)
    if user is None:
        raise InvalidCredentials
    update_last_login(None, user)  # type: ignore[arg-type]
    row, token = AuthToken.objects.create(user=user)
    return token, row.expiry


@transaction.atomic
def revoke_token(*, digest: str) -> None:
    """End the validity of one token, known by its hash."""
    AuthToken.objects.filter(pk=digest).delete()


@transaction.atomic
def revoke_tokens(*, user_id: UUID) -> None:
    """End the validity of all tokens of a user."""
    AuthToken.objects.filter(user_id=user_id).delete()


@transaction.atomic
def change_password(*, user_id: UUID, old_password: str, new_password: str, keep_digest: str) -> None:
    """Set a new password, validated before, and revoke the user's tokens but the one whose hash is `keep_digest`.

    Raises:
        WrongPassword: the old password is not the user's.
    """
    user = User.objects.select_for_update().get(pk=user_id)
    if not user.check_password(old_password):
        raise WrongPassword
    user.set_password(new_password)
    user.save(update_fields=["password"])
    AuthToken.objects.filter(user=user).exclude(pk=keep_digest).delete()


@transaction.atomic
def save_password(*, user: User) -> None:
    """Save the password that was set on a user, as the admin's forms do, and revoke all tokens of the user.

    Whoever has them may be why the password is changed.
    """
    user.save(update_fields=["password"])
    revoke_tokens(user_id=user.pk)


@transaction.atomic
def follow(*, follower_id: UUID, followed_id: UUID) -> None:
    """Let a user follow another one. Who did before still does, since then.

    Raises:
        FollowsThemself: both are the same.
    """
    if follower_id == followed_id:
        raise FollowsThemself
    Follow.objects.bulk_create([Follow(follower_id=follower_id, followed_id=followed_id)], ignore_conflicts=True)


@transaction.atomic
def unfollow(*, follower_id: UUID, followed_id: UUID) -> None:
    """Let a user follow another one no more."""
    Follow.objects.filter(follower_id=follower_id, followed_id=followed_id).delete()


def _save(user: User, *, update_fields: Collection[str] | None = None) -> None:
    try:
        # A savepoint, so that the transaction can be asked who is in the way.
        with transaction.atomic():
            user.save(update_fields=update_fields)
    except IntegrityError:
        if fields := User.objects.taken(by_others_than=user):
            raise Taken(fields) from None
        raise
