"""What Celery does for payments. The schedule is in the settings."""

from celery import shared_task

from config import locks
from payments import settling


# One that hangs is killed, and what it took falls due again.
@shared_task(time_limit=60)
def settle_due() -> None:
    """Ask providers that call out about the payments that are due, unless another process of Celery is at it.

    So a slow provider takes one of Celery's processes, and the others enforce the deadlines.
    """
    with locks.a_place(settling.LOCK) as is_alone:
        if is_alone:
            settling.settle_due()
