"""Who asks: users with tokens, added in bulk."""

from datetime import timedelta

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.db import transaction
from django.utils import timezone
from knox.models import AuthToken, get_digest_token
from knox.settings import CONSTANTS

ADDED_AT_ONCE = 5_000
VALID_FOR = timedelta(days=1)


@transaction.atomic
def add(name: str, number: int) -> list[str]:
    """Add so many users, and return a token of each. They cannot log in: to hash passwords would take minutes."""
    users = get_user_model().objects.bulk_create(
        [
            get_user_model()(
                username=f"{name}-{place}", email=f"{name}-{place}@example.com", password=UNUSABLE_PASSWORD_PREFIX
            )
            for place in range(number)
        ],
        batch_size=ADDED_AT_ONCE,
    )
    expiry = timezone.now() + VALID_FOR
    digests, tokens = zip(*(get_digest_token("") for _ in users), strict=True)
    AuthToken.objects.bulk_create(
        [
            AuthToken(digest=digest, token_key=token[: CONSTANTS.TOKEN_KEY_LENGTH], user=user, expiry=expiry)
            for user, digest, token in zip(users, digests, tokens, strict=True)
        ],
        batch_size=ADDED_AT_ONCE,
    )
    return list(tokens)
