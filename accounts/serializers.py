"""The JSON of users and tokens."""

from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from rest_framework import serializers

from accounts.models import User
from config.api import StrictSerializer, Text


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


class Registration(StrictSerializer):
    """Who wants to become a user."""

    username = UserName(validators=[UnicodeUsernameValidator()])
    email = serializers.EmailField(max_length=254)
    password = Password()
    language = serializers.ChoiceField(User.Language.choices, default=User.Language.ENGLISH)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        refuse_weak(attrs["password"], User(username=attrs["username"], email=attrs["email"]), field="password")
        return attrs


class Credentials(StrictSerializer):
    """Whom a token is for."""

    username = UserName()
    password = Password()


class ProfileChange(StrictSerializer):
    """What is to be another; the rest stays."""

    email = serializers.EmailField(max_length=254, required=False)
    language = serializers.ChoiceField(User.Language.choices, required=False)
    telegram_chat_id = Text(max_length=64, allow_blank=True, required=False)


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


class NewUser(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ["id", "username", "email", "language"]
        read_only_fields = fields


class Profile(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ["id", "username", "email", "language", "telegram_chat_id"]
        read_only_fields = fields


class Token(serializers.Serializer[Any]):
    token = serializers.CharField()
    expiry = serializers.DateTimeField()
