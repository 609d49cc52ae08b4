"""Posts in the admin: found, looked at, and deleted by who may."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.urls import reverse

from posts import services
from posts.models import Post

pytestmark = pytest.mark.django_db

LIST = "admin:posts_post_changelist"


@pytest.fixture
def post(customer):
    return services.write(author_id=customer.pk, title="On <b>tea</b>", body="It wants\nboiling water.")


@pytest.fixture
def somebody(client, staff):
    """Return a function that logs staff with some permissions in."""

    def log_in(*codenames):
        staff.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        assert staff.user_permissions.count() == len(codenames)
        client.force_login(staff)
        return client

    return log_in


def url(post, page="change"):
    return reverse(f"admin:posts_post_{page}", args=[post.pk])


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("carol", 1),
        ("tea", 1),
        ("{post.pk}", 1),
        ("{beginning}", 1),
        ("steve", 0),
        ("boiling", 0),
        ("01890000-0000-7000-8000-000000000000", 0),
    ],
)
def test_posts_are_found(admin_client, post, term, expected):
    term = term.format(post=post, beginning=str(post.pk)[:30])
    assert admin_client.get(reverse(LIST), {"q": term}).context["cl"].result_count == expected


def test_a_post_is_shown_as_it_was_written(somebody, post):
    page = somebody("view_post").get(url(post)).content.decode()
    assert "On &lt;b&gt;tea&lt;/b&gt;" in page
    assert "It wants<br>boiling water." in page
    assert reverse("admin:accounts_user_change", args=[post.author_id]) in page
    assert url(post, "delete") not in page


def test_a_post_is_not_written_or_changed(admin_client, post):
    assert admin_client.get(reverse("admin:posts_post_add")).status_code == 403
    assert admin_client.post(url(post), {"title": "Coffee", "body": "…"}).status_code == 403
    assert Post.objects.get().title == "On <b>tea</b>"


def test_a_post_is_deleted_and_the_log_says_by_whom(somebody, staff, post):
    client = somebody("view_post", "delete_post")
    assert url(post, "delete") in client.get(url(post)).content.decode()
    assert client.get(url(post, "delete")).status_code == 200
    assert client.post(url(post, "delete"), {"post": "yes"}).status_code == 302
    assert not Post.objects.exists()
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id, entry.object_repr) == (staff, str(post.pk), "On <b>tea</b>")
    assert entry.is_deletion()


def test_a_post_is_deleted_by_nobody_else(somebody, post):
    client = somebody("view_post", "add_post", "change_post")
    assert client.post(url(post, "delete"), {"post": "yes"}).status_code == 403
    action = {"action": "delete_selected", "_selected_action": [str(post.pk)], "post": "yes"}
    client.post(reverse(LIST), action)
    somebody("view_post", "delete_post").post(reverse(LIST), action)
    assert Post.objects.get() == post
    assert not LogEntry.objects.exists()
