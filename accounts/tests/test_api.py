"""Users and tokens over HTTP."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone
from knox.models import AuthToken

from accounts.events import UserCreated
from accounts.models import User
from notifications.kinds import Channel, Kind

pytestmark = pytest.mark.django_db

DORA = {"username": "dora", "email": "dora@example.com", "password": "correct horse"}


def test_registers_a_user(anybody, outbox):
    response = anybody.post("/api/v1/users/", DORA)
    assert response.status_code == 201
    user = User.objects.get()
    assert response.json() == {
        "id": str(user.id),
        "username": "dora",
        "email": "dora@example.com",
        "language": "en",
    }
    assert outbox.types == ["user.created"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"password": "password"}, "password"),
        ({"password": "dora@example.com"}, "password"),
        ({"password": "x" * 1025}, "password"),
        ({"password": 1234567890123}, "password"),
        ({"username": "two words"}, "username"),
        ({"username": "x" * 151}, "username"),
        # One sign, which NFKC makes 18 with spaces between.
        ({"username": "\ufdfa" * 150}, "username"),
        ({"username": "nul\0"}, "username"),
        ({"username": ["dora"]}, "username"),
        ({"username": None}, "username"),
        ({"email": "nobody"}, "email"),
        ({"email": 1}, "email"),
        ({"email": "x" * 250 + "@example.com"}, "email"),
        ({"language": "de"}, "language"),
        ({"language": []}, "language"),
        ({"language": 1}, "language"),
        ({"is_staff": True}, "is_staff"),
    ],
)
def test_refuses_a_registration_by_field(anybody, problem, change, field):
    response = anybody.post("/api/v1/users/", {**DORA, **change})
    assert problem(response) == (400, "unknown_field" if field == "is_staff" else "invalid")
    assert list(response.json()["errors"]) == [field]
    assert not User.objects.exists()


@pytest.mark.parametrize("field", ["email", "language"])
def test_survives_what_is_nested_nearly_too_deep(anybody, problem, field):
    body = json.dumps({**DORA, field: "deep"})
    codes = []
    # From what is too deep for the parser to the deepest that it takes.
    for depth in range(1000, 0, -1):
        nested = body.replace('"deep"', "[" * depth + "]" * depth)
        answer = anybody.generic("POST", "/api/v1/users/", nested, content_type="application/json")
        status, code = problem(answer)
        assert status == 400
        codes.append(code)
        if codes.count("invalid") == 50:
            break
    assert set(codes) == {"parse_error", "invalid"}


def test_names_what_somebody_has_already(anybody, problem):
    anybody.post("/api/v1/users/", DORA)
    response = anybody.post("/api/v1/users/", {**DORA, "username": "DORA", "email": "dora@EXAMPLE.com"})
    assert problem(response) == (400, "taken")
    assert response.json()["errors"].keys() == {"username", "email"}


def test_logs_in_and_out(anybody, customer, problem):
    answer = anybody.post("/api/v1/auth/token/", {"username": "carol", "password": "a password of hers"})
    assert answer.status_code == 200
    assert answer.json().keys() == {"token", "expiry"}

    anybody.credentials(HTTP_AUTHORIZATION=f"Token {answer.json()['token']}")
    assert anybody.get("/api/v1/users/me/").json()["username"] == "carol"
    assert anybody.delete("/api/v1/auth/token/").status_code == 204

    response = anybody.get("/api/v1/users/me/")
    assert problem(response) == (401, "authentication_failed")
    assert response["WWW-Authenticate"] == "Token"


def test_logs_in_with_an_old_token_sent_along(anybody, customer):
    anybody.credentials(HTTP_AUTHORIZATION="Token old")
    answer = anybody.post("/api/v1/auth/token/", {"username": "carol", "password": "a password of hers"})
    assert answer.status_code == 200


def test_refuses_wrong_credentials(anybody, customer, problem):
    response = anybody.post("/api/v1/auth/token/", {"username": "carol", "password": "wrong"})
    assert problem(response) == (401, "invalid_credentials")
    assert response["WWW-Authenticate"] == "Token"


def test_logs_out_everywhere(api, customer, staff):
    client, other, somebody_else = api(customer), api(customer), api(staff)
    assert client.delete("/api/v1/auth/tokens/").status_code == 204
    assert [c.get("/api/v1/users/me/").status_code for c in (client, other, somebody_else)] == [401, 401, 200]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Token",
        "Token a b",
        "Token nonsense",
        "Bearer x",
        "Token \0",
        "Token \xff\xfe",
        "Token " + "a" * 9000,
    ],
)
def test_takes_nothing_else_for_a_token(anybody, problem, header):
    response = anybody.get("/api/v1/users/me/", HTTP_AUTHORIZATION=header)
    assert problem(response)[0] == 401
    assert response["WWW-Authenticate"] == "Token"


def test_takes_no_token_that_has_expired(api, customer, problem):
    client = api(customer)
    AuthToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    assert problem(client.get("/api/v1/users/me/")) == (401, "authentication_failed")


def test_takes_no_token_of_a_user_who_is_not_active(api, customer, problem):
    client = api(customer)
    User.objects.update(is_active=False)
    assert problem(client.get("/api/v1/users/me/")) == (401, "authentication_failed")


def test_knows_a_token_by_one_query_however_many_there_are(api, customer, django_assert_num_queries):
    client, *_ = [api(customer) for _ in range(5)]
    # The other is for the preferences.
    with django_assert_num_queries(2):
        client.get("/api/v1/users/me/")


def test_changes_the_profile(api, customer):
    client = api(customer)
    response = client.patch("/api/v1/users/me/", {"language": "ko", "telegram_chat_id": "42"})
    assert response.status_code == 200
    assert response.json() == client.get("/api/v1/users/me/").json()
    assert response.json() == {
        "id": str(customer.id),
        "username": "carol",
        "email": "carol@example.com",
        "language": "ko",
        "telegram_chat_id": "42",
        "notification_preferences": {kind: dict.fromkeys(Channel.values, True) for kind in Kind.values},
    }
    assert client.patch("/api/v1/users/me/", {"telegram_chat_id": ""}).json()["telegram_chat_id"] == ""


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"username": "root"}, "unknown_field"),
        ({"is_superuser": True}, "unknown_field"),
        ({"email": ""}, "invalid"),
        ({"email": "steve@EXAMPLE.com"}, "taken"),
        ({"telegram_chat_id": 42}, "invalid"),
        ({"telegram_chat_id": None}, "invalid"),
        ({"telegram_chat_id": "my chat"}, "invalid"),
        ({"telegram_chat_id": "4 2"}, "invalid"),
        ({"telegram_chat_id": "-100200300"}, "invalid"),
        ({"telegram_chat_id": "@channel"}, "invalid"),
        ({"notification_preferences": []}, "invalid"),
        ({"notification_preferences": {"WELCOME": True}}, "invalid"),
        ({"notification_preferences": {"WELCOME": {"EMAIL": "no"}}}, "invalid"),
        ({"notification_preferences": {"WELCOME": {"EMAIL": None}}}, "invalid"),
    ],
)
def test_changes_nothing_else_of_the_profile(api, customer, staff, problem, change, code):
    response = api(customer).patch("/api/v1/users/me/", change)
    assert problem(response) == (400, code)
    assert list(response.json()["errors"]) == list(change)


def test_changes_what_one_wants_to_be_told_and_where(api, customer):
    client = api(customer)
    before = client.get("/api/v1/users/me/").json()["notification_preferences"]
    change = {"WELCOME": {"EMAIL": False, "IN_APP": False}, "NEW_POST": {"TELEGRAM": False}}
    after = client.patch("/api/v1/users/me/", {"notification_preferences": change}).json()["notification_preferences"]
    assert after == before | {
        "WELCOME": {"EMAIL": False, "TELEGRAM": True, "IN_APP": False},
        "NEW_POST": {"EMAIL": True, "TELEGRAM": False, "IN_APP": True},
    }
    change = {"WELCOME": {"EMAIL": True}}
    client.patch("/api/v1/users/me/", {"notification_preferences": change})
    after = client.get("/api/v1/users/me/").json()["notification_preferences"]
    assert after["WELCOME"] == {"EMAIL": True, "TELEGRAM": True, "IN_APP": False}


@pytest.mark.parametrize("unknown", [{"NEWS": {"EMAIL": False}}, {"WELCOME": {"FAX": False}}])
def test_knows_no_other_preferences_and_changes_nothing_then(api, customer, problem, unknown):
    client = api(customer)
    before = client.get("/api/v1/users/me/").json()
    response = client.patch("/api/v1/users/me/", {"language": "ko", "notification_preferences": unknown})
    assert problem(response)[0] == 400
    assert "There is no such field." in str(response.json()["errors"])
    assert client.get("/api/v1/users/me/").json() == before


def test_a_profile_that_cannot_be_changed_leaves_the_preferences_as_they_are(api, customer, staff, problem):
    client = api(customer)
    before = client.get("/api/v1/users/me/").json()
    change = {"email": staff.email, "notification_preferences": {"WELCOME": {"EMAIL": False}}}
    assert problem(client.patch("/api/v1/users/me/", change)) == (400, "taken")
    assert client.get("/api/v1/users/me/").json() == before


def test_changes_the_password(api, customer, anybody):
    client, other = api(customer), api(customer)
    words = {"old_password": "a password of hers", "new_password": "another of hers"}
    assert client.post("/api/v1/users/me/password/", words).status_code == 204
    assert [c.get("/api/v1/users/me/").status_code for c in (client, other)] == [200, 401]
    token = anybody.post("/api/v1/auth/token/", {"username": "carol", "password": "another of hers"})
    assert token.status_code == 200


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"old_password": "wrong", "new_password": "another of hers"}, "old_password"),
        ({"old_password": "a password of hers", "new_password": "carol@example.com"}, "new_password"),
        ({"new_password": "another of hers"}, "old_password"),
    ],
)
def test_changes_the_password_only_from_the_old_one_to_a_good_one(api, customer, problem, words, field):
    response = api(customer).post("/api/v1/users/me/password/", words)
    assert problem(response)[0] == 400
    assert list(response.json()["errors"]) == [field]
    customer.refresh_from_db()
    assert customer.check_password("a password of hers")


def test_adds_a_user_in_the_admin(admin_client, outbox):
    response = admin_client.post(
        "/admin/accounts/user/add/",
        {
            "username": "erin",
            "email": "erin@example.com",
            "language": "ko",
            "usable_password": "true",
            "password1": "correct horse",
            "password2": "correct horse",
        },
    )
    assert response.status_code == 302, response.content
    assert outbox.published(UserCreated).username == "erin"


def test_refuses_a_taken_address_in_the_admin(admin_client, customer):
    response = admin_client.post(
        f"/admin/accounts/user/{customer.pk}/change/", {"username": "carol", "email": "ADMIN@example.com"}
    )
    assert response.status_code == 200
    assert b"This e-mail address is taken." in response.content


@pytest.mark.parametrize("path", ["accounts/user/", "knox/authtoken/", "notifications/notification/"])
def test_shows_a_list_in_the_admin(admin_client, api, customer, path):
    api(customer)
    assert admin_client.get(f"/admin/{path}").status_code == 200
