"""What can be wrong in the settings."""

import os
import subprocess
import sys

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from notifications import checks
from notifications.tests.bot_api import TOKEN


def found():
    messages = [
        *checks.check_telegram(),
        *checks.check_mail_server(),
        *checks.check_sender(),
        *checks.check_retention(),
    ]
    assert all(message.hint for message in messages)
    return [message.id for message in messages]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TELEGRAM_BOT_TOKEN", f"{TOKEN}/../other", ["notifications.E001"]),
        ("TELEGRAM_BOT_TOKEN", f"{TOKEN}\n", ["notifications.E001"]),
        ("TELEGRAM_API_URL", "api.telegram.org", ["notifications.E002"]),
        ("TELEGRAM_API_URL", "ftp://api.telegram.org", ["notifications.E002"]),
        ("TELEGRAM_CHAT_ID", "-100", ["notifications.W001"]),
        ("EMAIL_FROM", "Orderbox", ["notifications.E003"]),
        ("EMAIL_FROM", "", ["notifications.E003"]),
        ("EMAIL_FROM", "orders@", ["notifications.E003"]),
        ("EMAIL_FROM", "Orderbox <a@example.com>\nBcc: b@example.com", ["notifications.E003"]),
        ("EMAIL_IS_READABLE", False, ["notifications.E005"]),
        ("NOTIFICATION_RETENTION_DAYS", 29, ["notifications.E004"]),
        ("NOTIFICATION_RETENTION_DAYS", 30, []),
        ("TELEGRAM_BOT_TOKEN", TOKEN, []),
        ("EMAIL_FROM", "Orderbox <orders@example.com>", []),
    ],
)
def test_tells_what_is_wrong_and_what_to_do(settings, name, value, expected):
    setattr(settings, name, value)
    assert found() == expected


def test_tells_nobody_the_token(settings):
    settings.TELEGRAM_BOT_TOKEN = f"{TOKEN} "
    assert TOKEN not in str(checks.check_telegram())


def test_manage_py_check_asks_them(settings):
    settings.EMAIL_FROM = "nobody"
    with pytest.raises(SystemCheckError, match=r"notifications\.E003"):
        call_command("check")


@pytest.mark.parametrize("url", ["mail.example.com:587", "smtp://shop:pa/ss@mail.example.com:587", "fax://example.com"])
def test_an_address_of_a_mail_server_that_cannot_be_read_is_told_without_its_password(url):
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        env={**os.environ, "EMAIL_URL": url, "ENV_FILE": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "notifications.E005" in done.stderr
    assert "Traceback" not in done.stderr
    assert "pa/ss" not in done.stderr
