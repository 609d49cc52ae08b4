"""What users are told."""

import pytest
from django.utils import timezone
from uuid_utils.compat import uuid7

from notifications import services
from notifications.models import Notification
from notifications.services import Notice
from notifications.texts import REASONS, TEXTS

pytestmark = pytest.mark.django_db

Kind = Notification.Kind


def test_speaks_the_users_language(customer, staff):
    type(staff).objects.filter(pk=staff.pk).update(language="ko")
    services.notify(
        notices=[
            Notice(uuid7(), user.id, Kind.ORDER_CANCELLED, uuid7(), {"reason": "OUT_OF_STOCK"})
            for user in (customer, staff)
        ]
    )
    assert {n.user.username: (n.title, n.body) for n in Notification.objects.all()} == {
        "carol": ("Your order was cancelled", "There was not enough in stock."),
        "steve": ("주문이 취소되었습니다", "재고가 부족했습니다."),
    }


def test_tells_a_user_of_one_event_once(customer):
    notice = Notice(uuid7(), customer.id, Kind.WELCOME, facts={"username": "{carol}"})
    services.notify(notices=[notice, notice])
    services.notify(notices=[notice])
    assert Notification.objects.get().title == "Welcome, {carol}"


def test_tells_nobody_when_one_user_is_not_there(customer):
    notices = [Notice(uuid7(), user_id, Kind.WELCOME, facts={"username": "x"}) for user_id in (customer.id, uuid7())]
    with pytest.raises(KeyError):
        services.notify(notices=notices)
    assert not Notification.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_leaves_nothing_when_it_crashes_before_the_commit(customer, outbox):
    notice = Notice(uuid7(), customer.id, Kind.WELCOME, facts={"username": "carol"})
    outbox.crash(lambda: services.notify(notices=[notice]))
    assert not Notification.objects.exists()


def test_tells_of_two_users_by_two_statements(customer, staff, django_assert_num_queries):
    notices = [Notice(uuid7(), u.id, Kind.WELCOME, facts={"username": u.username}) for u in (customer, staff)]
    # Beside these, the savepoint's two.
    with django_assert_num_queries(4):
        services.notify(notices=notices)


def test_keeps_the_time_of_the_first_reading(customer):
    services.notify(notices=[Notice(uuid7(), customer.id, Kind.WELCOME, facts={"username": "carol"})])
    first = timezone.now()
    services.mark_read(user_id=customer.id, now=first)
    services.mark_read(user_id=customer.id, now=timezone.now())
    assert Notification.objects.get().read_at == first


@pytest.mark.parametrize(("language", "words"), [("en", "you"), ("ko", "하신")])
def test_does_not_tell_whose_wish_it_was_to_cancel(language, words):
    # The shop's people cancel orders under the same reason.
    assert words not in REASONS[language]["CUSTOMER"].lower()


@pytest.mark.parametrize("language", ["en", "ko"])
def test_has_words_for_everything(language):
    assert TEXTS[language].keys() == set(Kind)
    assert REASONS[language].keys() == {"OUT_OF_STOCK", "PAYMENT_FAILED", "CUSTOMER", "TIMEOUT"}
