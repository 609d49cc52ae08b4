"""Facts that posts publishes."""

from uuid import UUID

from outbox import Event, Topic

POST = Topic("post-events")


class PostCreated(Event, topic=POST, type="post.created", key="post_id"):
    """A user wrote a post. `author` is the user's name."""

    post_id: UUID
    author_id: UUID
    author: str
    title: str
