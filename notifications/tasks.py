"""What Celery does for notifications. The schedule is in the settings."""

from celery import shared_task

from config import locks
from notifications import sending
from notifications.kinds import Channel


# One that hangs is killed, and what it took falls due again.
@shared_task(time_limit=240)
def send_due(channel: str) -> None:
    """Send what is due on a channel, unless so many processes of Celery are at it already as the channel bears.

    So a slow mail server takes two of Celery's processes, and the others do the rest.
    """
    to = Channel(channel)
    key, places = sending.PLACES[to]
    with locks.a_place(key, places=places) as is_ours:
        if is_ours:
            sending.send_due(to)
