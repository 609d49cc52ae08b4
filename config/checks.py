"""What can be wrong in the settings, told by `manage.py check`. Each has an id, and a hint what to do about it."""

import re
from typing import Any

from django.conf import settings
from django.core.checks import Error, Tags, register

# Settings of numbers that are not below what stands beside them. A limit of 0 is none.
LOWEST = {
    "THROTTLE_USER_PER_MINUTE": 0,
    "THROTTLE_ADDRESS_PER_MINUTE": 0,
    "FAILED_LOGINS_PER_NAME": 0,
    "FAILED_LOGINS_PER_ADDRESS": 0,
    "FAILED_LOGIN_WINDOW_SECONDS": 1,
    "NUM_PROXIES": 0,
    "HSTS_SECONDS": 0,
}


@register(Tags.security)
def numbers_are_not_too_low(**options: Any) -> list[Error]:
    return [
        Error(f"{name} is {getattr(settings, name)}.", hint=f"Set it to {lowest} or more.", id="config.E001")
        for name, lowest in LOWEST.items()
        if getattr(settings, name) < lowest
    ]


@register(Tags.security)
def proxy_header_is_a_header(**options: Any) -> list[Error]:
    if re.fullmatch(r"[A-Za-z0-9-]*", settings.HTTPS_PROXY_HEADER):
        return []
    hint = "Set it to the name of the header in which your proxy says `https`, as X-Forwarded-Proto."
    return [Error(f"HTTPS_PROXY_HEADER is {settings.HTTPS_PROXY_HEADER!r}.", hint=hint, id="config.E002")]
