"""Who is told, where, and how often."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from uuid_utils.compat import uuid7

import accounts.services
from accounts.models import User
from notifications import services
from notifications.kinds import Channel, Kind
from notifications.models import Notification, OptOut
from notifications.services import Notice, Paid, Posted

pytestmark = pytest.mark.django_db


def told(**filters):
    """Return (user, kind, channel) of notifications."""
    rows = Notification.objects.filter(**filters).values_list("user__username", "kind", "channel")
    return sorted((name or "operators", kind, channel) for name, kind, channel in rows)


def post(author, **fields):
    return Posted(uuid7(), uuid7(), author.pk, author.username, "Tea", fields.get("at", timezone.now()))


def test_tells_a_user_wherever_they_can_be_reached(chatting, staff, welcome):
    User.objects.filter(pk=staff.pk).update(email="")
    welcome(chatting)
    welcome(staff)
    assert told() == [
        ("carol", "WELCOME", "EMAIL"),
        ("carol", "WELCOME", "IN_APP"),
        ("carol", "WELCOME", "TELEGRAM"),
        ("steve", "WELCOME", "IN_APP"),
    ]
    assert set(Notification.objects.filter(channel="IN_APP").values_list("status", flat=True)) == {"SENT"}
    assert set(Notification.objects.exclude(channel="IN_APP").values_list("status", flat=True)) == {"PENDING"}


def test_tells_nobody_what_they_have_switched_off(chatting, staff, welcome):
    services.set_preferences(
        user_id=chatting.pk, wanted={Kind.WELCOME: {Channel.EMAIL: False}, Kind.NEW_POST: {Channel.IN_APP: False}}
    )
    welcome(chatting)
    welcome(staff)
    assert told() == [
        ("carol", "WELCOME", "IN_APP"),
        ("carol", "WELCOME", "TELEGRAM"),
        ("steve", "WELCOME", "EMAIL"),
        ("steve", "WELCOME", "IN_APP"),
    ]


def test_tells_of_one_event_once_on_each_channel(chatting):
    notice = Notice(uuid7(), chatting.id, Kind.WELCOME, context={"username": "carol"})
    services.notify(notices=[notice, notice])
    services.notify(notices=[notice])
    assert len(told()) == 3


def test_tells_the_operators_of_a_payment_once(customer):
    paid = Paid(uuid7(), uuid7(), customer.pk, "5.00", "USD", timezone.now())
    services.tell_of_payments(payments=[paid, paid])
    services.tell_of_payments(payments=[paid])
    assert told() == [
        ("carol", "PAYMENT_SUCCEEDED", "EMAIL"),
        ("carol", "PAYMENT_SUCCEEDED", "IN_APP"),
        ("operators", "PAYMENT_SUCCEEDED", "TELEGRAM"),
    ]


def test_tells_of_a_post_its_author_and_who_followed_them_then(customer, staff):
    dave, erin = (User.objects.create_user(name, f"{name}@example.com") for name in ("dave", "erin"))
    accounts.services.follow(follower_id=staff.pk, followed_id=customer.pk)
    accounts.services.follow(follower_id=dave.pk, followed_id=customer.pk)
    accounts.services.follow(follower_id=customer.pk, followed_id=erin.pk)
    accounts.services.unfollow(follower_id=dave.pk, followed_id=customer.pk)
    first, second = post(customer), post(customer, at=timezone.now() + timedelta(seconds=5))
    before = post(customer, at=timezone.now() - timedelta(hours=1))
    services.tell_of_posts(posts=[before, first, second])
    assert told(channel="IN_APP", event_id=before.event_id) == [("carol", "POST_PUBLISHED", "IN_APP")]
    for one in (first, second):
        assert told(channel="IN_APP", event_id=one.event_id) == [
            ("carol", "POST_PUBLISHED", "IN_APP"),
            ("steve", "NEW_POST", "IN_APP"),
        ]
    assert set(Notification.objects.values_list("subject_id", flat=True)) == {
        before.post_id,
        first.post_id,
        second.post_id,
    }


def test_tells_many_followers_by_few_statements(customer, monkeypatch, django_assert_max_num_queries):
    monkeypatch.setattr(services, "CHUNK", 10)
    followers = User.objects.bulk_create(User(username=f"f{n}", email=f"f{n}@example.com") for n in range(35))
    for follower in followers:
        accounts.services.follow(follower_id=follower.pk, followed_id=customer.pk)
    with django_assert_max_num_queries(25):
        services.tell_of_posts(posts=[post(customer)])
    assert Notification.objects.filter(kind="NEW_POST", channel="IN_APP").count() == 35


def test_tells_nobody_when_one_user_is_not_there(customer):
    notices = [Notice(uuid7(), user_id, Kind.WELCOME, context={"username": "x"}) for user_id in (customer.id, uuid7())]
    with pytest.raises(KeyError):
        services.notify(notices=notices)
    assert not Notification.objects.exists()


@pytest.mark.parametrize("context", [{}, {"reason": "FRAUD"}])
def test_what_cannot_be_told_is_written_for_nobody(customer, context):
    with pytest.raises(KeyError):
        services.notify(notices=[Notice(uuid7(), customer.pk, Kind.ORDER_CANCELLED, uuid7(), context)])
    assert not Notification.objects.exists()


@pytest.mark.parametrize(
    "tell",
    [
        lambda user: services.notify(notices=[Notice(uuid7(), user.pk, Kind.WELCOME, context={"username": "x"})]),
        lambda user: services.tell_of_posts(posts=[post(user)]),
        lambda user: services.tell_of_payments(
            payments=[Paid(uuid7(), uuid7(), user.pk, "5.00", "USD", timezone.now())]
        ),
    ],
    ids=["notify", "posts", "payments"],
)
@pytest.mark.django_db(transaction=True)
def test_leaves_nothing_when_it_crashes_before_the_commit(customer, outbox, tell):
    outbox.crash(lambda: tell(customer))
    assert not Notification.objects.exists()


def test_tells_of_two_users_by_three_statements(customer, staff, django_assert_num_queries):
    notices = [Notice(uuid7(), u.id, Kind.WELCOME, context={"username": u.username}) for u in (customer, staff)]
    # Users, the time, what they do not want, and the rows. Beside these, the savepoint's two.
    with django_assert_num_queries(6):
        services.notify(notices=notices)


def test_keeps_the_time_of_the_first_reading(customer, welcome):
    welcome(customer)
    first = timezone.now()
    services.mark_read(user_id=customer.id, now=first)
    services.mark_read(user_id=customer.id, now=timezone.now())
    assert Notification.objects.inbox(customer.pk).get().read_at == first
    assert Notification.objects.get(channel="EMAIL").read_at is None


def test_preferences_change_only_where_they_are_named(customer, staff):
    wanted = {Kind.WELCOME: {Channel.EMAIL: False, Channel.IN_APP: False}, Kind.NEW_POST: {Channel.EMAIL: False}}
    services.set_preferences(user_id=customer.pk, wanted=wanted)
    services.set_preferences(user_id=customer.pk, wanted=wanted)
    services.set_preferences(user_id=staff.pk, wanted={Kind.WELCOME: {Channel.IN_APP: False}})
    services.set_preferences(user_id=customer.pk, wanted={Kind.WELCOME: {Channel.IN_APP: True}})
    assert sorted(OptOut.objects.values_list("user__username", "kind", "channel")) == [
        ("carol", "NEW_POST", "EMAIL"),
        ("carol", "WELCOME", "EMAIL"),
        ("steve", "WELCOME", "IN_APP"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"due_at": None},
        {"status": "SENT"},
        {"status": "FAILED"},
        {"read_at": timezone.now()},
        {"user": None},
        {"channel": "IN_APP"},
    ],
)
def test_the_database_refuses_a_row_that_makes_no_sense(customer, welcome, wrong):
    welcome(customer)
    with pytest.raises(IntegrityError), transaction.atomic():
        Notification.objects.filter(channel="EMAIL").update(**wrong)
