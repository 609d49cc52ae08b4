"""The JSON of users and tokens."""

from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.models import User, telegram_chat
from config.api import Choice, StrictSerializer, Text
from config.describing import example
from notifications.kinds import Channel, Kind
from notifications.serializers import Preferences


class UserName(Text):
    """A user name in the form in which it is stored: Unicode's NFKC, so that look-alikes are the same."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=150, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        return User.normalize_username(super().to_internal_value(data))


class Password(Text):
    def __init__(self, **kwargs: Any) -> None:
        # Enough for any passphrase, and hashed in no time worth an attack.
        super().__init__(max_length=1024, trim_whitespace=False, style={"input_type": "password"}, **kwargs)


@example(username="carol", email="carol@example.com", password="correct horse battery", language="en")
class Registration(StrictSerializer):
    """Who wants to become a user."""

    username = UserName(validators=[UnicodeUsernameValidator()])
    email = serializers.EmailField(max_length=254)
    password = Password()
    language = Choice(User.Language.choices, default=User.Language.ENGLISH)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        refuse_weak(attrs["password"], User(username=attrs["username"], email=attrs["email"]), field="password")
        return attrs


@example(username="alice", password="orderbox-demo")
class Credentials(StrictSerializer):
    """Whom a token is for."""

    username = UserName()
    password = Password()


@example(
    email="alice@example.com",
    language="ko",
    telegram_chat_id="123456789",
    notification_preferences={"ORDER_COMPLETED": {"EMAIL": False}},
)
class ProfileChange(StrictSerializer):
    """What is to be another; the rest stays."""

    email = serializers.EmailField(max_length=254, required=False)
    language = Choice(User.Language.choices, required=False)
    telegram_chat_id = Text(max_length=64, allow_blank=True, required=False, validators=[telegram_chat])
    notification_preferences = Preferences(required=False)


@example(old_password="orderbox-demo", new_password="correct horse battery")
class PasswordChange(StrictSerializer):
    """The present password, and the one to come."""

    old_password = Password()
    new_password = Password()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        refuse_weak(attrs["new_password"], self.context["request"].user, field="new_password")
        return attrs


def refuse_weak(password: str, user: User, *, field: str) -> None:
    """Ask Django's password validators.

    Raises:
        serializers.ValidationError: what is wrong with it, under `field`.
    """
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise serializers.ValidationError({field: error.messages}) from error


@example(id="0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f02", username="carol", email="carol@example.com", language="en")
class NewUser(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ["id", "username", "email", "language"]
        read_only_fields = fields


@example(
    id="0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f03",
    username="alice",
    email="alice@example.com",
    language="ko",
    telegram_chat_id="123456789",
    notification_preferences={kind: dict.fromkeys(Channel.values, True) for kind in Kind.values},
)
class Profile(serializers.ModelSerializer[User]):
    notification_preferences = serializers.SerializerMethodField()

    class Meta:
        model = User
        fields = ["id", "username", "email", "language", "telegram_chat_id", "notification_preferences"]
        read_only_fields = fields

    @extend_schema_field(Preferences)
    def get_notification_preferences(self, user: User) -> dict[str, dict[str, bool]]:
        return Preferences.of(user.pk)


@example(token="4f1d" * 16, expiry="2026-11-22T07:15:00.000000Z")
class Token(serializers.Serializer[Any]):
    token = serializers.CharField()
    expiry = serializers.DateTimeField()
