"""Users, their tokens and whom they follow over HTTP."""

from typing import Any, cast
from uuid import UUID

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from knox.models import AuthToken
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import serializers, services
from accounts.models import User
from accounts.throttles import wrong_passwords_counted
from config.api import Nothing, user_id
from config.describing import refuses
from config.idempotency import idempotent


class Users(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]

    @refuses("taken")
    @extend_schema(request=serializers.Registration, responses={201: serializers.NewUser})
    @idempotent
    def post(self, request: Request) -> Response:
        """Register."""
        user = services.register(**serializers.Registration.read(request))
        return Response(serializers.NewUser(user).data, status=201)


class Token(APIView):
    def get_authenticators(self) -> Any:
        # Whoever logs in may still send an old token along. There is no request while the schema is made.
        is_login = self.request is not None and self.request.method == "POST"
        return [] if is_login else super().get_authenticators()

    def get_permissions(self) -> Any:
        return [] if self.request.method == "POST" else super().get_permissions()

    @refuses("invalid_credentials")
    @extend_schema(request=serializers.Credentials, responses=serializers.Token, auth=[])
    def post(self, request: Request) -> Response:
        """Log in: get a token to send as `Authorization: Token …`."""
        credentials = serializers.Credentials.read(request)
        with wrong_passwords_counted(request, username=credentials["username"]):
            token, expiry = services.log_in(**credentials)
        return Response(serializers.Token({"token": token, "expiry": expiry}).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request) -> Response:
        """Log out: revoke the token of this request."""
        services.revoke_token(digest=digest(request))
        return Response(status=204)


class Tokens(APIView):
    @extend_schema(responses={204: None})
    def delete(self, request: Request) -> Response:
        """Log out everywhere: revoke all one's tokens."""
        services.revoke_tokens(user_id=user_id(request))
        return Response(status=204)


class Me(APIView):
    @extend_schema(responses=serializers.Profile)
    def get(self, request: Request) -> Response:
        """Read one's own profile."""
        return Response(serializers.Profile(cast(User, request.user)).data)

    @refuses("taken")
    @extend_schema(request=serializers.ProfileChange, responses=serializers.Profile)
    def patch(self, request: Request) -> Response:
        """Change one's own profile."""
        user = services.update_profile(user_id=user_id(request), **serializers.ProfileChange.read(request))
        return Response(serializers.Profile(user).data)


class Password(APIView):
    @refuses("wrong_password")
    @extend_schema(request=serializers.PasswordChange, responses={204: None})
    def post(self, request: Request) -> Response:
        """Change one's password. All one's other tokens are revoked."""
        change = serializers.PasswordChange.read(request)
        # Or who has stolen a token could guess the password here.
        with wrong_passwords_counted(request, username=cast(User, request.user).username):
            services.change_password(user_id=user_id(request), keep_digest=digest(request), **change)
        return Response(status=204)


class Follow(APIView):
    @refuses("follows_themself")
    @extend_schema(request=Nothing, responses={204: None})
    @idempotent
    def post(self, request: Request, username: str) -> Response:
        """Follow a user. Who does already goes on."""
        Nothing.read(request)
        services.follow(follower_id=user_id(request), followed_id=active(username))
        return Response(status=204)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, username: str) -> Response:
        """Follow a user no more."""
        # Be they active or not: a follow must not come back with its user.
        followed = get_object_or_404(User.objects.named(username))
        services.unfollow(follower_id=user_id(request), followed_id=followed.pk)
        return Response(status=204)


def active(username: str) -> UUID:
    """Return the id of the active user of this name.

    Raises:
        Http404: there is none.
    """
    return get_object_or_404(User.objects.named(username), is_active=True).pk


def digest(request: Request) -> str:
    """Return the hash of the token of a request."""
    return cast(AuthToken, request.auth).digest
