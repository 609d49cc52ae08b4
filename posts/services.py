"""Everything that changes posts. Each function is one transaction."""

from uuid import UUID

from django.db import transaction

from outbox import publish
from posts.events import PostCreated
from posts.models import Post


@transaction.atomic
def write(*, author_id: UUID, title: str, body: str) -> Post:
    """Put a post, validated before, where everybody reads it. Publishes PostCreated."""
    post = Post(author_id=author_id, title=title, body=body)
    post.save(force_insert=True)
    publish(PostCreated(post_id=post.pk, author_id=author_id, author=post.author.username, title=title))
    return post
