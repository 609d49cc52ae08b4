"""What Celery does for orders. The schedule is in the settings."""

from celery import shared_task
from django.utils import timezone

from orders import services


@shared_task
def cancel_overdue() -> None:
    """Cancel orders whose deadline has passed."""
    services.cancel_overdue(now=timezone.now())
