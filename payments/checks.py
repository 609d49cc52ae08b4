"""System checks: what a person can misconfigure about money, said before anything runs."""

import re
from inspect import isabstract
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.utils.module_loading import import_string


@register()
def check_currency(**kwargs: Any) -> list[CheckMessage]:
    """Check that CURRENCY looks like a code of ISO 4217."""
    if re.fullmatch("[A-Z]{3}", settings.CURRENCY):
        return []
    return [
        Error(
            f"CURRENCY is {settings.CURRENCY!r}, which is no code of ISO 4217.",
            hint="Set it to three capital letters, such as USD.",
            id="payments.E001",
        )
    ]


@register()
def check_provider(**kwargs: Any) -> list[CheckMessage]:
    """Check that PAYMENT_PROVIDER names a class that takes payments."""
    from payments.providers import InlineProvider, RemoteProvider

    hint = "Name a class derived from InlineProvider or RemoteProvider, such as payments.providers.WalletProvider."
    path = settings.PAYMENT_PROVIDER
    try:
        provider = import_string(path)
    except ImportError as error:
        return [Error(f"PAYMENT_PROVIDER is {path!r}: {error}", hint=hint, id="payments.E002")]
    is_provider = isinstance(provider, type) and issubclass(provider, InlineProvider | RemoteProvider)
    if is_provider and not isabstract(provider):
        return []
    return [Error(f"PAYMENT_PROVIDER is {path!r}, which is no payment provider.", hint=hint, id="payments.E003")]
