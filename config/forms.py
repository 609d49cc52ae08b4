"""The forms of acts in the admin, each of which does something only once."""

from uuid import UUID, uuid4, uuid5

from django import forms
from django.utils import timezone

from config.models import IdempotencyKey


class ActForm(forms.Form):
    """Asks whether an act is to be done. Subclasses ask for what it needs."""

    # Another one each time the form is shown: a second click, or the browser's way back, sends the old one again.
    once = forms.UUIDField(initial=uuid4, widget=forms.HiddenInput)


def use_up(once: UUID) -> bool:
    """Return whether a form is sent for the first time, and remember that with the caller's transaction.

    Blocks while another transaction does what the same form asks for. Remembered as long as an Idempotency-Key.
    """
    # Of another kind than those of requests, so that neither can stand for the other.
    scope = uuid5(once, "form")
    answer = {"fingerprint": "", "status": 302, "headers": {}, "body": b"", "created_at": timezone.now()}
    return IdempotencyKey.objects.get_or_create(scope=scope, defaults=answer)[1]
