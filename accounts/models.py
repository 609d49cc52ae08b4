"""The table of users. Tokens are knox's."""

from typing import ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.db import models
from django.db.models.functions import Lower
from uuid_utils.compat import uuid7


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


class User(AbstractUser):
    class Language(models.TextChoices):
        ENGLISH = "en", "English"
        KOREAN = "ko", "한국어"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField("email address")
    # The language of what is sent to the user.
    language = models.CharField(max_length=2, choices=Language, default=Language.ENGLISH)
    # Empty: no Telegram.
    telegram_chat_id = models.CharField(max_length=64, blank=True)

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
