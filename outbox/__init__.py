"""Transactional outbox, relay, inbox and dead letters for Django and Kafka.

The whole public interface: an app declares its facts with `Topic` and `Event`, tells of them with `publish`
inside the transaction that makes them true, and reacts to others' with `handles` (`consumer_group`
says how its group works). `upcasts` reads older versions of an event.
"""

from outbox.events import Event, InvalidEvent, Topic, upcasts
from outbox.publishing import OutsideTransaction, publish
from outbox.registry import consumer_group, handles

__all__ = ["Event", "InvalidEvent", "OutsideTransaction", "Topic", "consumer_group", "handles", "publish", "upcasts"]
