"""What changes users and tokens."""

from collections import Counter

import pytest
from django.db import IntegrityError
from django.utils import timezone
from knox.models import AuthToken

from accounts import services
from accounts.events import UserCreated
from accounts.models import User
from outbox.models import OutboxEvent

pytestmark = pytest.mark.django_db


def register(username="dora", email="dora@example.com"):
    return services.register(username=username, email=email, password="correct horse", language="ko")


def test_tells_of_a_registration(outbox):
    user = register()
    assert outbox.events == [UserCreated(user_id=user.id, username="dora", email="dora@example.com", language="ko")]
    assert user.check_password("correct horse")


@pytest.mark.parametrize(
    ("username", "email", "fields"),
    [
        ("DORA", "other@example.com", {"username"}),
        ("other", "Dora@Example.COM", {"email"}),
        ("Dora", "DORA@example.com", {"username", "email"}),
        # Full-width letters: NFKC makes them plain ones.
        ("ｄｏｒａ", "other@example.com", {"username"}),
    ],
)
def test_refuses_a_registration_that_differs_from_another_only_in_case(username, email, fields):
    register()
    with pytest.raises(services.Taken) as refused:
        register(username, email)
    assert refused.value.fields == fields
    assert User.objects.count() == 1
    assert OutboxEvent.objects.count() == 1


def test_refuses_a_second_name_in_the_database_too():
    register()
    with pytest.raises(IntegrityError, match="username_taken"):
        User.objects.create(username="DORA", email="other@example.com")


@pytest.mark.django_db(transaction=True)
def test_lets_one_of_two_registrations_at_once_win(at_once):
    outcomes = at_once(*[register] * 4)
    assert Counter(type(outcome) for outcome in outcomes) == {User: 1, services.Taken: 3}
    assert OutboxEvent.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_leaves_no_user_when_it_crashes_before_the_commit(outbox):
    outbox.crash(register)
    assert not User.objects.exists()
    assert not OutboxEvent.objects.exists()


def test_lets_a_user_keep_their_own_address_in_another_case(customer):
    user = services.update_profile(user_id=customer.id, email="CAROL@example.com")
    assert user.email == "CAROL@example.com"


def test_refuses_an_address_that_somebody_else_has(customer):
    register()
    with pytest.raises(services.Taken):
        services.update_profile(user_id=customer.id, email="DORA@example.com", language="ko")
    customer.refresh_from_db()
    assert (customer.email, customer.language) == ("carol@example.com", "en")


def test_stores_no_token_but_its_hash(customer):
    token, expiry = services.log_in(username="carol", password="a password of hers")
    row = AuthToken.objects.get()
    assert token not in (row.digest, row.token_key)
    assert expiry > timezone.now()


@pytest.mark.parametrize(("username", "password"), [("carol", "wrong"), ("nobody", "a password of hers")])
def test_gives_no_token_for_wrong_credentials(customer, username, password):
    with pytest.raises(services.InvalidCredentials):
        services.log_in(username=username, password=password)
    assert not AuthToken.objects.exists()


def test_gives_no_token_to_a_user_who_is_not_active(customer):
    User.objects.update(is_active=False)
    with pytest.raises(services.InvalidCredentials):
        services.log_in(username="carol", password="a password of hers")


def test_revokes_the_other_tokens_with_a_new_password(customer):
    kept, _ = AuthToken.objects.create(user=customer)
    AuthToken.objects.create(user=customer)
    services.change_password(
        user_id=customer.id,
        old_password="a password of hers",
        new_password="another of hers",
        keep_digest=kept.digest,
    )
    customer.refresh_from_db()
    assert customer.check_password("another of hers")
    assert list(AuthToken.objects.all()) == [kept]


@pytest.mark.django_db(transaction=True)
def test_revokes_nothing_when_it_crashes_before_the_commit(customer, outbox):
    AuthToken.objects.create(user=customer)
    outbox.crash(
        lambda: services.change_password(
            user_id=customer.id, old_password="a password of hers", new_password="another", keep_digest=""
        )
    )
    assert AuthToken.objects.count() == 1
    assert User.objects.get().check_password("a password of hers")


def test_changes_no_password_without_the_old_one(customer):
    kept, _ = AuthToken.objects.create(user=customer)
    AuthToken.objects.create(user=customer)
    with pytest.raises(services.WrongPassword):
        services.change_password(
            user_id=customer.id, old_password="wrong", new_password="another", keep_digest=kept.digest
        )
    assert AuthToken.objects.count() == 2
