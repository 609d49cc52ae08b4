"""Following over HTTP."""

import pytest

from accounts.models import Follow, User

pytestmark = pytest.mark.django_db


def path(username):
    return f"/api/v1/users/{username}/follow/"


def follows():
    return [(follow.follower.username, follow.followed.username) for follow in Follow.objects.order_by("id")]


def test_follows_and_follows_no_more(api, customer, staff):
    client = api(customer)
    for _ in range(2):
        answer = client.post(path("steve"))
        assert (answer.status_code, answer.content) == (204, b"")
        assert follows() == [("carol", "steve")]
    for _ in range(2):
        answer = client.delete(path("steve"))
        assert (answer.status_code, answer.content) == (204, b"")
        assert follows() == []


@pytest.mark.parametrize(
    ("username", "asked"),
    [
        ("d@home.example", "D@HOME.example"),
        ("d.o-r+a_1", "d.o-r%2Ba_1"),
        ("Đorá", "Đorá"),
        ("도라", "도라"),
        ("me", "me"),
        ("dora", "ＤＯＲＡ"),
    ],
)
def test_follows_a_user_of_any_name_however_it_is_written(api, customer, username, asked):
    User.objects.create_user(username, "dora@example.com")
    client = api(customer)
    assert client.post(path(asked)).status_code == 204
    assert follows() == [("carol", username)]
    assert client.delete(path(asked)).status_code == 204
    assert follows() == []


def test_refuses_to_follow_oneself(api, customer, problem):
    assert problem(api(customer).post(path("Carol"))) == (400, "follows_themself")
    assert follows() == []


@pytest.mark.parametrize("username", ["nobody", "%00", "%ff", "a%2Fb", "steve%0A", "x" * 151, "%EF%B7%BA" * 150])
@pytest.mark.parametrize("method", ["post", "delete"])
def test_finds_no_user_who_is_not_there(api, customer, staff, problem, method, username):
    assert problem(getattr(api(customer), method)(path(username))) == (404, "not_found")
    assert follows() == []


def test_takes_no_body_but_an_empty_one(api, customer, staff, problem):
    client = api(customer)
    assert problem(client.post(path("steve"), {"since": "today"})) == (400, "unknown_field")
    assert problem(client.post(path("steve"), [])) == (400, "invalid")
    assert follows() == []
    assert client.post(path("steve"), {}).status_code == 204


@pytest.mark.parametrize("method", ["post", "delete"])
def test_needs_a_token(anybody, staff, problem, method):
    for username in ("steve", "nobody"):
        assert problem(getattr(anybody, method)(path(username))) == (401, "not_authenticated")


@pytest.mark.django_db(transaction=True)
def test_follows_once_when_asked_many_times_at_once(api, customer, staff, at_once):
    clients = [api(customer) for _ in range(5)]
    answers = at_once(*[lambda client=client: client.post(path("steve")) for client in clients])
    assert [answer.status_code for answer in answers] == [204] * 5
    assert follows() == [("carol", "steve")]


def test_who_is_not_active_can_only_be_followed_no_more(api, customer, problem):
    dora = User.objects.create_user("dora", "dora@example.com")
    client = api(customer)
    client.post(path("dora"))
    User.objects.filter(pk=dora.pk).update(is_active=False)
    assert problem(client.post(path("dora"))) == (404, "not_found")
    assert client.delete(path("dora")).status_code == 204
    User.objects.filter(pk=dora.pk).update(is_active=True)
    assert not User.objects.followers_of([dora.pk]).exists()
