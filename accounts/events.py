"""Facts that accounts publishes."""

from uuid import UUID

from outbox import Event, Topic

USER = Topic("user-events")


class UserCreated(Event, topic=USER, type="user.created", key="user_id"):
    user_id: UUID
    username: str
    email: str
    language: str
