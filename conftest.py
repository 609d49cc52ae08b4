"""What tests of several apps need."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.db import connection
from knox.models import AuthToken
from rest_framework.test import APIClient

from accounts.models import User

if TYPE_CHECKING:
    from outbox.testing.delivering import Outbox

pytest_plugins = ["outbox.testing"]


@pytest.fixture(autouse=True)
def quick_passwords(settings: Any) -> None:
    """Hash passwords without the work that makes a stolen hash useless."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def rows(outbox: "Outbox") -> Callable[[], dict[str, list[Any]]]:
    """Return a function that lists all rows of the shop and all that was published, to compare before and after."""

    def read() -> dict[str, list[Any]]:
        models = [model for app in ("orders", "stock", "payments") for model in apps.get_app_config(app).get_models()]
        rows = {model._meta.label: list(model._default_manager.order_by("pk").values()) for model in models}
        return {**rows, "published": [event.event_id for event in outbox.events]}

    return read


@pytest.fixture
def at_once() -> Callable[..., list[Any]]:
    """Return a function that makes calls at the same time, each on a connection of its own.

    It returns what they returned, or raised, in their order.
    """

    def make(*calls: Callable[[], Any]) -> list[Any]:
        start = Barrier(len(calls))

        def one(call: Callable[[], Any]) -> Any:
            try:
                start.wait()
                return call()
            except Exception as error:
                return error
            finally:
                connection.close()

        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(one, calls))

    return make


@pytest.fixture
def customer(db: None) -> User:
    return User.objects.create_user("carol", "carol@example.com", "a password of hers")


@pytest.fixture
def staff(db: None) -> User:
    return User.objects.create_user("steve", "steve@example.com", "a password of his", is_staff=True)


@pytest.fixture
def api() -> Callable[[User], APIClient]:
    """Return a function that makes a client with a token of a user."""

    def make(user: User) -> APIClient:
        client = APIClient(raise_request_exception=False)
        client.credentials(HTTP_AUTHORIZATION=f"Token {AuthToken.objects.create(user=user)[1]}")
        return client

    return make


@pytest.fixture
def anybody() -> APIClient:
    """A client without a token."""
    return APIClient(raise_request_exception=False)


@pytest.fixture
def problem() -> Callable[[Any], tuple[int, str]]:
    """Return a function that checks that an answer is a problem document, and returns its status and code."""

    def read(response: Any) -> tuple[int, str]:
        assert response["Content-Type"] == "application/problem+json", response.content
        document = response.json()
        assert document.keys() - {"errors"} == {"type", "title", "status", "detail", "code"}
        assert document["status"] == response.status_code
        assert document["title"]
        assert document["detail"]
        return document["status"], document["code"]

    return read
