"""What browsers are told, and what the settings come to."""

import json
import os
import subprocess
import sys

import pytest
from django.test import Client

from config import checks
from tests.settings_source import CHECKOUT

FEATURES_OFF = {"camera=()", "geolocation=()", "microphone=()", "payment=()"}
# Of one that is on the internet.
ENVIRONMENT = {"SECRET_KEY": "Zm9yIGEgdGVzdCwgYW5kIGZvciBubyBvbmUgZWxzZSBhdCBhbGwh-0123456789", "ENV_FILE": os.devnull}


def manage(*arguments, **environment):
    inherited = {name: value for name, value in os.environ.items() if name not in ("DEBUG", "DEMO", "HTTPS")}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=CHECKOUT,
        env={**inherited, **ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def settings_of(**environment):
    """Return settings as they are in another environment."""
    names = ["HTTPS", "SECURE_SSL_REDIRECT", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_HSTS_SECONDS"]
    code = f"import json; from django.conf import settings; print(json.dumps([getattr(settings, n) for n in {names}]))"
    result = manage("shell", "--no-imports", "-c", code, **environment)
    assert result.returncode == 0, result.stderr
    return dict(zip(names, json.loads(result.stdout.splitlines()[-1]), strict=True))


# ── Headers ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "path",
    ["/", "/api/docs/", "/api/schema/", "/api/v1/products/", "/api/v1/orders/", "/api/nope", "/admin/login/", "/nope"],
)
@pytest.mark.django_db
def test_tells_browsers_what_a_page_may_do(client, path):
    headers = client.get(path).headers
    policy = set(headers["Content-Security-Policy"].split("; "))
    assert {"default-src 'self'", "frame-ancestors 'none'", "object-src 'none'", "base-uri 'none'"} <= policy
    assert set(headers["Permissions-Policy"].split(", ")) >= FEATURES_OFF
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/api/docs/", "/api/docs/?script=", "/admin/login/", "/api/v1/products/"])
@pytest.mark.django_db
def test_lets_no_script_stand_in_a_page(client, path):
    policy = client.get(path)["Content-Security-Policy"]
    assert "script-src" not in policy
    assert ("unsafe-inline" in policy) == path.startswith("/api/docs/")
    assert "style-src 'self' 'unsafe-inline'" in policy or "unsafe" not in policy


# ── TLS ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("environment", "is_on"),
    [
        ({}, True),
        ({"DEMO": "true"}, False),
        ({"DEBUG": "true"}, False),
        ({"HTTPS": "false"}, False),
        ({"HTTPS": "true", "DEMO": "true"}, True),
    ],
)
def test_asks_for_tls_but_where_there_is_none(environment, is_on):
    assert settings_of(**environment) == {
        "HTTPS": is_on,
        "SECURE_SSL_REDIRECT": is_on,
        "SESSION_COOKIE_SECURE": is_on,
        "CSRF_COOKIE_SECURE": is_on,
        "SECURE_HSTS_SECONDS": 31536000 if is_on else 0,
    }


@pytest.mark.parametrize("path", ["/api/v1/products/", "/admin/login/", "/api/docs/"])
def test_sends_to_tls_who_comes_without(client, settings, path):
    settings.SECURE_SSL_REDIRECT = True
    answer = client.get(path)
    assert (answer.status_code, answer["Location"]) == (301, f"https://testserver{path}")


@pytest.mark.django_db
def test_tells_its_health_without_tls(client, settings):
    settings.SECURE_SSL_REDIRECT = True
    assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]


@pytest.mark.django_db
def test_believes_a_proxy_only_by_the_header_that_is_set(client, settings):
    settings.SECURE_SSL_REDIRECT, settings.SECURE_HSTS_SECONDS = True, 60
    headers = {"X-Forwarded-Proto": "https"}
    assert client.get("/api/v1/products/", headers=headers).status_code == 301

    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    answer = client.get("/api/v1/products/", headers=headers)
    assert answer.status_code == 200
    assert answer["Strict-Transport-Security"] == "max-age=60"


def test_reads_the_header_of_the_proxy():
    code = "from django.conf import settings; print(settings.SECURE_PROXY_SSL_HEADER)"
    shown = [
        manage("shell", "--no-imports", "-c", code, HTTPS_PROXY_HEADER=header).stdout.splitlines()[-1]
        for header in ("X-Forwarded-Proto", "")
    ]
    assert shown == ["('HTTP_X_FORWARDED_PROTO', 'https')", "None"]


# ── manage.py check ───────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("environment", [{}, {"DEMO": "true"}])
def test_is_fit_to_be_deployed(environment):
    result = manage("check", "--deploy", "--fail-level", "INFO", **environment)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("environment", "ids"),
    [
        ({"HTTPS": "false"}, {"W004", "W008", "W012", "W016"}),
        ({"DEBUG": "true"}, {"W004", "W008", "W012", "W016", "W018"}),
        ({"SECRET_KEY": "short"}, {"W009"}),
    ],
)
def test_tells_what_is_not_fit_to_be_deployed(environment, ids):
    result = manage("check", "--deploy", "--tag", "security", "--fail-level", "WARNING", **environment)
    assert result.returncode == 1
    assert all(f"security.{number}" in result.stderr for number in ids)


@pytest.mark.parametrize("name", checks.LOWEST)
def test_refuses_a_number_that_is_too_low(settings, name):
    assert checks.numbers_are_not_too_low() == []
    setattr(settings, name, checks.LOWEST[name] - 1)
    [error] = checks.numbers_are_not_too_low()
    assert error.id == "config.E001"
    assert name in error.msg
    assert error.hint


@pytest.mark.parametrize(("header", "is_wrong"), [("", False), ("X-Forwarded-Proto", False), ("X Proto: https", True)])
def test_refuses_a_header_that_is_none(settings, header, is_wrong):
    settings.HTTPS_PROXY_HEADER = header
    assert [error.id for error in checks.proxy_header_is_a_header()] == ["config.E002"] * is_wrong


# ── Cross-site requests ───────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db
def test_takes_no_session_for_a_token(staff, problem):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(staff)
    for answer in (browser.get("/api/v1/users/me/"), browser.post("/api/v1/orders/", {}, "application/json")):
        assert problem(answer)[0] == 401
        assert answer["WWW-Authenticate"] == "Token"


@pytest.mark.django_db
def test_asks_no_cookie_of_who_has_a_token(api, customer):
    client = api(customer)
    client.handler.enforce_csrf_checks = True
    assert (
        client.patch("/api/v1/users/me/", {"language": "ko"}, HTTP_ORIGIN="https://elsewhere.example").status_code
        == 200
    )


@pytest.mark.django_db
def test_takes_no_form_of_another_site_in_the_admin(admin_user):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(admin_user)
    assert browser.post("/admin/accounts/user/add/", {"username": "erin"}).status_code == 403
    assert browser.post("/admin/login/", {"username": "admin", "password": "password"}).status_code == 403

    token = browser.get("/admin/accounts/user/add/").cookies["csrftoken"].value
    answer = browser.post("/admin/accounts/user/add/", {"username": "erin", "csrfmiddlewaretoken": token})
    assert answer.status_code == 200
