"""The JSON of posts, and what a list of them can be filtered by."""

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.db.models import Model
from rest_framework import serializers

from config.api import StrictSerializer, Text
from config.describing import example
from posts.models import MAX_BODY, MAX_TITLE, Post, one_line


@example(title="Tea", body="Green tea wants water that has cooled for a while.")
class NewPost(StrictSerializer):
    """A post, to be written."""

    title = Text(max_length=MAX_TITLE, validators=[one_line])
    body = Text(max_length=MAX_BODY)


class PostFilter(serializers.Serializer[Any]):
    """Query parameters."""

    author = Text(
        max_length=150,
        trim_whitespace=False,
        validators=[UnicodeUsernameValidator()],
        required=False,
        help_text="A user's name, in upper or lower case.",
    )

    def validate_author(self, username: str) -> Model | None:
        """Return who has this name. None: no post has such an author."""
        return get_user_model().objects.named(username).first()


@example(
    id="0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f00",
    author="alice",
    title="Tea",
    body="Green tea wants water that has cooled for a while.",
    created_at="2026-11-21T21:15:00.000000Z",
)
class PostOut(serializers.ModelSerializer[Post]):
    author = serializers.CharField(source="author.username", read_only=True)

    class Meta:
        model = Post
        fields = ["id", "author", "title", "body", "created_at"]
        read_only_fields = fields
