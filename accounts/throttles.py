"""How many wrong passwords there may be. Without Redis none is counted.

They are counted by name, whatever address they come from, since who guesses has many addresses; and by address,
whatever the name, since others try one password on many names (OWASP, Authentication Cheat Sheet, "Account Lockout").
Above the limit the right password is refused like a wrong one, from every address: were it taken, guessing could go
on. So somebody can keep a user from logging in, but only for as long as they go on, and the user's tokens stay good. A
name that nobody has is counted too, so that nothing tells which ones there are.

A login counts as a wrong one while its password is being hashed, which takes long: many guesses at once would all find
the count as it was before the first of them.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from django import forms
from django.conf import settings
from django.http import HttpRequest
from rest_framework.exceptions import Throttled
from rest_framework.request import Request

from accounts.models import User
from accounts.services import InvalidCredentials, WrongPassword
from config.throttles import Counter, address

WRONG = (InvalidCredentials, WrongPassword, forms.ValidationError)


@contextmanager
def wrong_passwords_counted(request: Request | HttpRequest, *, username: str) -> Iterator[None]:
    """Count the block as a failed login, until it ends and does not raise that the password is wrong.

    Raises:
        Throttled: there are too many failed logins. The block was not run.
    """
    window_seconds = settings.FAILED_LOGIN_WINDOW_SECONDS
    # In Redis a name is nobody's business, and may be as long as it likes.
    digest = hashlib.sha256(User.normalize_username(username).casefold().encode()).hexdigest()
    by_name = Counter(f"failed-logins:name:{digest}", settings.FAILED_LOGINS_PER_NAME, window_seconds)
    by_address = Counter(
        f"failed-logins:address:{address(request)}", settings.FAILED_LOGINS_PER_ADDRESS, window_seconds
    )
    waits = [counter.add() for counter in (by_name, by_address)]
    try:
        if any(waits):
            raise Throttled(max(filter(None, waits)))
        yield
    except WRONG:
        raise
    except BaseException:
        by_name.take_back()
        by_address.take_back()
        raise
    by_name.forget()
    # Not all of the address's, or who has an account could begin again with a login of their own.
    by_address.take_back()
