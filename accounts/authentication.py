"""Tells the user of a request by its token."""

from django.utils import timezone
from knox import auth
from knox.crypto import hash_token
from knox.models import AuthToken
from rest_framework.exceptions import AuthenticationFailed

from accounts.models import User


class TokenAuthentication(auth.TokenAuthentication):
    """Knox's, but for the look-up: one query, by the hash, however many tokens the user has, and for any bytes."""

    def authenticate_credentials(self, token: bytes) -> tuple[User, AuthToken]:
        digest = hash_token(token.decode("latin-1"))
        found = AuthToken.objects.select_related("user").filter(pk=digest, expiry__gt=timezone.now()).first()
        if found is None:
            raise AuthenticationFailed("The token is not valid, or not valid any more.")
        return self.validate_user(found)
