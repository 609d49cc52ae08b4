"""Forms of the admin about users."""

from typing import Any, cast

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AdminPasswordChangeForm, PasswordChangeForm, UserChangeForm
from django.http import HttpRequest
from rest_framework.exceptions import Throttled

from accounts import services
from accounts.throttles import wrong_passwords_counted


class LoginForm(AdminAuthenticationForm):
    """The admin's, whose failed logins are counted too."""

    def clean(self) -> dict[str, Any]:
        username = self.cleaned_data.get("username", "")
        try:
            with wrong_passwords_counted(cast(HttpRequest, self.request), username=username):
                return super().clean()
        except Throttled as error:
            raise forms.ValidationError(error.detail, code=error.default_code) from None


class OwnPasswordForm(PasswordChangeForm):
    """For one's own password, of which one knows the old one."""

    required_css_class = "required"

    def save(self, commit: bool = True) -> Any:
        super().save(commit=False)
        services.save_password(user=self.user)
        return self.user


class NewPasswordForm(AdminPasswordChangeForm):
    """For somebody else's password."""

    def save(self, commit: bool = True) -> Any:
        super().save(commit=False)
        services.save_password(user=self.user)
        return self.user


class UserForm(UserChangeForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            # What the person changed is told by what they saw, not by what somebody else made of it meanwhile. The hash
            # of the password is not for browsers.
            field.show_hidden_initial = name != "password"
