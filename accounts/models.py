"""Users, and who follows whom. Tokens are knox's."""

from collections.abc import Iterable
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from django.contrib.auth.models import AbstractUser, UserManager
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from uuid_utils.compat import uuid7

# Of a private chat, so that nobody has a group or a channel written to: their numbers are below zero, or names.
telegram_chat = RegexValidator(r"^[0-9]{0,19}$", "Write the number of your chat with the bot: digits alone.")


class Users(UserManager["User"]):
    """Django's manager, and the reads of this app."""

    def taken(self, *, by_others_than: "User") -> set[str]:
        """Return which of a user's username and e-mail address somebody else has. Upper and lower case are the same."""
        others = self.exclude(pk=by_others_than.pk)
        return {
            field
            for field in ("username", "email")
            if others.alias(lower=Lower(field))
            .filter(lower=Lower(models.Value(getattr(by_others_than, field))))
            .exists()
        }

    def named(self, username: str) -> "models.QuerySet[User]":
        """Keep the one of this name. Upper and lower case are the same, and so are Unicode's look-alikes (NFKC)."""
        name = self.model.normalize_username(username)
        return self.alias(lower=Lower("username")).filter(lower=Lower(models.Value(name)))

    def followers_of(self, author_ids: Iterable[UUID]) -> "models.QuerySet[Follow, tuple[UUID, UUID, datetime]]":
        """Return the active followers of some users, in no order: (followed_id, follower_id, created_at).

        There may be very many: read them by `iterator()`.
        """
        follows = Follow.objects.filter(followed__in=set(author_ids), follower__is_active=True)
        return follows.order_by().values_list("followed_id", "follower_id", "created_at")


class User(AbstractUser):
    class Language(models.TextChoices):
        ENGLISH = "en", "English"
        KOREAN = "ko", "한국어"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField("email address")
    # The language of what is sent to the user.
    language = models.CharField(max_length=2, choices=Language, default=Language.ENGLISH)
    # Where the user wrote to the bot. Empty: no Telegram.
    telegram_chat_id = models.CharField(max_length=64, blank=True, validators=[telegram_chat])

    objects: ClassVar[Users] = Users()

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(
                Lower("username"), name="username_taken", violation_error_message="This username is taken."
            ),
            models.UniqueConstraint(
                Lower("email"), name="email_taken", violation_error_message="This e-mail address is taken."
            ),
        ]


class Follow(models.Model):
    """That a user wants to be told of what another one posts."""

    follower = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    # Its index is that of the constraint.
    followed = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+", db_index=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-id"]
        constraints = [
            # Who is followed stands first, and the time beside: so the index alone answers for the followers of a user.
            models.UniqueConstraint(fields=["followed", "follower"], include=["created_at"], name="follow_once"),
            models.CheckConstraint(condition=~models.Q(followed=models.F("follower")), name="follow_somebody_else"),
        ]

    def __str__(self) -> str:
        return f"{self.follower} follows {self.followed}"
