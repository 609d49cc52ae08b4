"""Posts are written, and told of."""

import pytest
from django.db import IntegrityError, transaction

from outbox.models import OutboxEvent
from posts import services
from posts.events import PostCreated
from posts.models import Post

pytestmark = pytest.mark.django_db


def write(author, title="On tea", body="It wants\nboiling water."):
    return services.write(author_id=author.pk, title=title, body=body)


def test_tells_of_a_post(customer, outbox):
    post = write(customer)
    assert (post.author, post.title, post.body) == (customer, "On tea", "It wants\nboiling water.")
    assert Post.objects.get() == post
    assert outbox.events == [PostCreated(post_id=post.pk, author_id=customer.pk, author="carol", title="On tea")]


@pytest.mark.django_db(transaction=True)
def test_leaves_no_post_when_it_crashes_before_the_commit(customer, outbox):
    outbox.crash(lambda: write(customer))
    assert not Post.objects.exists()
    assert not OutboxEvent.objects.exists()


@pytest.mark.parametrize("empty", ["title", "body"])
def test_refuses_an_empty_post_in_the_database_too(customer, empty):
    with pytest.raises(IntegrityError, match="post_not_empty"), transaction.atomic():
        write(customer, **{empty: ""})
    assert not OutboxEvent.objects.exists()
