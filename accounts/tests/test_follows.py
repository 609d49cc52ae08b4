"""Who follows whom: once, never themselves, and found by whom they follow."""

import pytest
from django.db import IntegrityError
from uuid_utils.compat import uuid7

from accounts import services
from accounts.models import Follow, User

pytestmark = pytest.mark.django_db


def follow(follower, followed):
    services.follow(follower_id=follower.pk, followed_id=followed.pk)


def unfollow(follower, followed):
    services.unfollow(follower_id=follower.pk, followed_id=followed.pk)


def followers_of(*users):
    return {(followed, follower) for followed, follower, _ in User.objects.followers_of(user.pk for user in users)}


@pytest.fixture
def dora(db):
    return User.objects.create_user("dora", "dora@example.com")


def test_follows_since_the_first_time(customer, staff):
    follow(customer, staff)
    first = Follow.objects.get()
    follow(customer, staff)
    assert Follow.objects.get() == first
    assert list(User.objects.followers_of([staff.pk])) == [(staff.pk, customer.pk, first.created_at)]


def test_follows_in_one_direction(customer, staff):
    follow(customer, staff)
    assert followers_of(customer) == set()
    follow(staff, customer)
    assert followers_of(customer, staff) == {(customer.pk, staff.pk), (staff.pk, customer.pk)}


def test_refuses_to_follow_oneself(customer):
    with pytest.raises(services.FollowsThemself):
        follow(customer, customer)
    assert not Follow.objects.exists()


def test_refuses_to_follow_oneself_in_the_database_too(customer):
    with pytest.raises(IntegrityError, match="follow_somebody_else"):
        Follow.objects.create(follower=customer, followed=customer)


def test_follows_a_user_no_more(customer, staff, dora):
    for follower, followed in [(customer, staff), (staff, customer), (customer, dora), (dora, staff)]:
        follow(follower, followed)
    for _ in range(2):
        unfollow(customer, staff)
    assert followers_of(customer, staff, dora) == {
        (customer.pk, staff.pk),
        (dora.pk, customer.pk),
        (staff.pk, dora.pk),
    }


def test_finds_the_active_followers_of_some(customer, staff, dora):
    for follower, followed in [(customer, staff), (dora, staff), (customer, dora)]:
        follow(follower, followed)
    assert followers_of(staff) == {(staff.pk, customer.pk), (staff.pk, dora.pk)}
    User.objects.filter(pk=dora.pk).update(is_active=False)
    # Who is not active is still followed.
    assert followers_of(staff, dora) == {(staff.pk, customer.pk), (dora.pk, customer.pk)}
    assert followers_of() == set()


def test_finds_followers_by_one_query(customer, staff, dora, django_assert_num_queries):
    for follower in (customer, dora):
        follow(follower, staff)
    with django_assert_num_queries(1):
        assert len(list(User.objects.followers_of([staff.pk, staff.pk, uuid7()]).iterator())) == 2


@pytest.mark.parametrize("name", ["carol", "CAROL", "ｃａｒｏｌ"])
def test_finds_a_user_by_name_however_it_is_written(customer, staff, name):
    assert User.objects.named(name).get() == customer


@pytest.mark.parametrize("name", ["", "car", "carol@example.com", "x" * 1000])
def test_finds_no_user_by_another_name(customer, name):
    assert not User.objects.named(name).exists()


@pytest.mark.django_db(transaction=True)
def test_follows_once_when_asked_many_times_at_once(customer, staff, at_once):
    assert at_once(*[lambda: follow(customer, staff)] * 5) == [None] * 5
    assert Follow.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("change", "left"), [(follow, 0), (unfollow, 1)])
def test_changes_nothing_when_it_crashes_before_the_commit(customer, staff, outbox, change, left):
    if change is unfollow:
        follow(customer, staff)
    outbox.crash(lambda: change(customer, staff))
    assert Follow.objects.count() == left
