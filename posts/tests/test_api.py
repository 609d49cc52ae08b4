"""Posts over HTTP."""

from uuid import UUID

import pytest

from posts import services
from posts.models import Post

pytestmark = pytest.mark.django_db

POSTS = "/api/v1/posts/"
TEA = {"title": "Tea", "body": "It wants\nboiling water.\t"}


def write(author, *titles):
    """Write posts, the oldest first."""
    for title in titles:
        services.write(author_id=author.pk, title=title, body="…")


def titles(page):
    return [post["title"] for post in page["results"]]


def test_writes_a_post(api, customer, staff, outbox):
    answer = api(customer).post(POSTS, TEA)
    assert answer.status_code == 201
    post = answer.json()
    assert post == {
        "id": post["id"],
        "author": "carol",
        "title": "Tea",
        "body": "It wants\nboiling water.",
        "created_at": post["created_at"],
    }
    assert UUID(post["id"]).version == 7
    assert outbox.types == ["post.created"]
    # Everybody sees it.
    client = api(staff)
    assert client.get(f"{POSTS}{post['id']}/").json() == post
    assert client.get(POSTS).json() == {"results": [post], "next": None, "previous": None}


@pytest.mark.parametrize("title", ["x", "x" * 200, "차 한 잔 🍵", "<b>'\"&\\", "x" * 200 + "  ", "a\u200db"])
def test_takes_any_title_of_one_line(api, customer, title):
    assert api(customer).post(POSTS, {**TEA, "title": title}).json()["title"] == title.strip()


def test_takes_the_longest_body(api, customer):
    body = "🍵" * 20_000
    assert api(customer).post(POSTS, {**TEA, "body": body}).json()["body"] == body


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"title": "x" * 201}, "title"),
        ({"title": ""}, "title"),
        ({"title": " \u3000 "}, "title"),
        ({"title": "two\nlines"}, "title"),
        ({"title": "two\rlines"}, "title"),
        ({"title": "two\u2028lines"}, "title"),
        ({"title": "a\tb"}, "title"),
        ({"title": "nul\0"}, "title"),
        ({"title": "a\x7fb"}, "title"),
        ({"title": "a\x9fb"}, "title"),
        # Refused as fast as it is read.
        ({"title": " " * 500_000 + "\x01 x" + " x" * 200_000}, "title"),
        ({"title": None}, "title"),
        ({"title": 1}, "title"),
        ({"title": ["Tea"]}, "title"),
        ({"body": "x" * 20_001}, "body"),
        ({"body": ""}, "body"),
        ({"body": " \n\t"}, "body"),
        ({"body": "nul\0"}, "body"),
        ({"body": None}, "body"),
        ({"body": {}}, "body"),
        ({"author": "steve"}, "author"),
        ({"id": "0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f00"}, "id"),
    ],
)
def test_refuses_a_post_by_field(api, customer, problem, outbox, change, field):
    answer = api(customer).post(POSTS, {**TEA, **change})
    assert problem(answer) == (400, "unknown_field" if field not in TEA else "invalid")
    assert list(answer.json()["errors"]) == [field]
    assert not Post.objects.exists()
    assert outbox.events == []


@pytest.mark.parametrize("body", [{}, {"title": "Tea"}, {"body": "…"}, [], "Tea", 1])
def test_refuses_what_is_no_post(api, customer, problem, body):
    assert problem(api(customer).post(POSTS, body)) == (400, "invalid")
    assert not Post.objects.exists()


def test_lists_everybodys_posts_the_newest_first_over_pages(api, customer, staff, django_assert_num_queries):
    write(customer, "a", "b")
    write(staff, "c", "d")
    write(customer, "e")
    client = api(customer)
    # The token, and the page with its authors.
    with django_assert_num_queries(2):
        first = client.get(f"{POSTS}?page_size=2").json()
    second = client.get(first["next"]).json()
    third = client.get(second["next"]).json()
    assert titles(first) + titles(second) + titles(third) == ["e", "d", "c", "b", "a"]
    assert titles(client.get(third["previous"]).json()) == ["c", "b"]
    assert third["next"] is None


def test_lists_an_authors_posts(api, customer, staff):
    write(customer, "a", "b")
    write(staff, "c")
    write(customer, "d")
    type(customer).objects.filter(pk=customer.pk).update(is_active=False)
    client = api(staff)
    first = client.get(POSTS, {"author": "Carol", "page_size": 2}).json()
    assert titles(first) + titles(client.get(first["next"]).json()) == ["d", "b", "a"]
    assert titles(client.get(POSTS, {"author": "nobody"}).json()) == []


@pytest.mark.parametrize("author", ["", " ", "\0", "\x19", "two words", " carol", "x" * 151])
def test_knows_what_can_be_no_author(api, customer, problem, author):
    answer = api(customer).get(POSTS, {"author": author})
    assert problem(answer) == (400, "invalid")
    assert answer.json()["errors"].keys() == {"author"}


def test_finds_no_post_that_is_not_there(api, customer, problem):
    client = api(customer)
    for pk in ("0192d5a0-7d3c-7e7c-8b2a-5a3e6c1d9f00", "1", "%00"):
        assert problem(client.get(f"{POSTS}{pk}/")) == (404, "not_found")


def test_needs_a_token(anybody, customer, problem):
    write(customer, "a")
    path = f"{POSTS}{Post.objects.get().pk}/"
    answers = [anybody.get(POSTS), anybody.get(path), anybody.post(POSTS, TEA)]
    assert [problem(answer) for answer in answers] == [(401, "not_authenticated")] * 3
    assert Post.objects.count() == 1


def test_changes_nothing(api, customer, problem):
    write(customer, "a")
    path = f"{POSTS}{Post.objects.get().pk}/"
    for method in ("put", "patch", "delete"):
        assert problem(getattr(api(customer), method)(path, TEA)) == (405, "method_not_allowed")


def test_writes_a_post_once_under_one_key(api, customer, problem, outbox):
    client = api(customer)

    def send(body):
        return client.post(POSTS, body, headers={"Idempotency-Key": "k"})

    first, second = send(TEA), send(TEA)
    assert (second.status_code, second.content) == (201, first.content)
    assert second["Idempotent-Replayed"] == "true"
    assert problem(send({**TEA, "title": "Coffee"})) == (422, "idempotency_key_reused")
    assert Post.objects.count() == 1
    assert outbox.types == ["post.created"]
