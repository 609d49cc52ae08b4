"""The table of posts."""

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone
from uuid_utils.compat import uuid7

MAX_TITLE = 200
MAX_BODY = 20_000
# Nothing of Unicode's control characters and line breaks. NUL is one of them, which PostgreSQL's text cannot hold.
one_line = RegexValidator(
    r"^(?=.*\S)[^\x00-\x1f\x7f-\x9f\u2028\u2029]+\Z", "Write one line, without control characters."
)


class PostQuerySet(models.QuerySet["Post"]):
    def with_authors(self) -> "PostQuerySet":
        """Fetch the authors along, for their names."""
        return self.select_related("author")


class Post(models.Model):
    """What a user wrote. Everybody who has a token reads it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # Found by the index of their newest.
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="posts", db_index=False)
    title = models.CharField(max_length=MAX_TITLE, validators=[one_line])
    body = models.TextField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = PostQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="post_newest"),
            models.Index(fields=["author", "-created_at", "-id"], name="post_newest_of_author"),
        ]
        constraints = [
            models.CheckConstraint(condition=~models.Q(title="") & ~models.Q(body=""), name="post_not_empty"),
        ]

    def __str__(self) -> str:
        return self.title
