"""How many wrong passwords there may be."""

import pytest
from django.db import OperationalError
from django.test import Client, RequestFactory
from rest_framework.exceptions import Throttled

from accounts.throttles import wrong_passwords_counted

pytestmark = pytest.mark.django_db

RIGHT = "a password of hers"


@pytest.fixture(autouse=True)
def limits(settings):
    settings.FAILED_LOGINS_PER_NAME = 2
    settings.FAILED_LOGINS_PER_ADDRESS = 5


@pytest.fixture
def log_in(anybody):
    def post(username="carol", password="wrong", address="127.0.0.1"):
        return anybody.post("/api/v1/auth/token/", {"username": username, "password": password}, REMOTE_ADDR=address)

    return post


def test_refuses_a_name_after_too_many_wrong_passwords(customer, staff, log_in, problem):
    assert [log_in().status_code for _ in range(2)] == [401, 401]
    answer = log_in()
    assert problem(answer) == (429, "throttled")
    assert 0 < int(answer["Retry-After"]) <= 300
    assert log_in("steve", "a password of his").status_code == 200


def test_refuses_the_right_password_of_such_a_name_from_every_address(customer, log_in, problem):
    for number in range(2):
        log_in(address=f"192.0.2.{number}")
    assert problem(log_in(password=RIGHT, address="192.0.2.9")) == (429, "throttled")


def test_leaves_the_tokens_of_such_a_name_alone(customer, api, log_in):
    client = api(customer)
    for _ in range(3):
        log_in()
    assert client.get("/api/v1/users/me/").status_code == 200


def test_refuses_an_address_after_too_many_wrong_passwords(customer, log_in, problem):
    assert [log_in(f"name{number}").status_code for number in range(5)] == [401] * 5
    assert problem(log_in(password=RIGHT)) == (429, "throttled")
    assert log_in(password=RIGHT, address="192.0.2.1").status_code == 200


def test_treats_a_name_that_nobody_has_alike(log_in, problem):
    assert [log_in("nobody").status_code for _ in range(3)] == [401, 401, 429]


@pytest.mark.parametrize("other", ["CAROL", "Carol", "ｃａｒｏｌ", " carol "])
def test_counts_a_name_in_another_form_as_the_same(customer, log_in, other):
    assert [log_in(name).status_code for name in ("carol", other, "carol")] == [401, 401, 429]


def test_counts_no_login_with_the_right_password(customer, log_in):
    assert [log_in(password=RIGHT).status_code for _ in range(8)] == [200] * 8


def test_begins_anew_for_a_name_with_the_right_password(customer, log_in):
    assert [log_in(password=word).status_code for word in ("wrong", RIGHT, "wrong", "wrong")] == [401, 200, 401, 401]


def test_does_not_begin_anew_for_an_address_with_the_right_password(customer, log_in):
    for number in range(4):
        log_in(f"name{number}")
    assert [log_in(password=word).status_code for word in (RIGHT, "wrong", RIGHT)] == [200, 401, 429]


def test_counts_nothing_that_is_not_a_login(anybody, customer, log_in):
    for _ in range(6):
        assert anybody.post("/api/v1/auth/token/", {"username": "carol"}).status_code == 400
    assert log_in(password=RIGHT).status_code == 200


def counted(username="carol"):
    return wrong_passwords_counted(RequestFactory().post("/"), username=username)


def test_counts_logins_that_are_under_way(customer):
    with counted(), counted(), pytest.raises(Throttled), counted():
        pass
    # None of them was wrong.
    with counted(), counted():
        pass


def test_counts_no_login_that_fails_for_another_reason(customer):
    for _ in range(3):
        with pytest.raises(OperationalError), counted():
            raise OperationalError


def test_does_not_count_for_an_address_what_is_refused_for_a_name(customer, log_in):
    assert [log_in().status_code for _ in range(6)] == [401] * 2 + [429] * 4
    assert [log_in(f"name{number}").status_code for number in range(4)] == [401] * 3 + [429]


@pytest.mark.django_db(transaction=True)
def test_lets_no_more_wrong_passwords_pass_when_they_come_at_once(customer, log_in, at_once, settings):
    # The real work, so that each of them comes while the others are hashed.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    assert sorted(answer.status_code for answer in at_once(*[log_in] * 6)) == [401] * 2 + [429] * 4


def test_takes_every_login_while_redis_is_away(customer, log_in, own_redis):
    with own_redis.away():
        assert [log_in().status_code for _ in range(4)] == [401] * 4
        assert log_in(password=RIGHT).status_code == 200


def test_counts_wrong_passwords_in_a_change_of_the_password(api, customer, log_in, problem):
    client, change = api(customer), {"old_password": "wrong", "new_password": "another of hers"}
    answers = [client.post("/api/v1/users/me/password/", change) for _ in range(3)]
    assert [problem(answer) for answer in answers] == [(400, "wrong_password")] * 2 + [(429, "throttled")]
    assert problem(log_in(password=RIGHT)) == (429, "throttled")


def test_counts_wrong_passwords_at_the_door_of_the_admin(staff, log_in):
    browser = Client()
    words = {"username": "steve", "password": "wrong"}
    pages = [browser.post("/admin/login/", words).content.decode() for _ in range(3)]
    assert ["Request was throttled" in page for page in pages] == [False, False, True]
    assert log_in("steve", "a password of his").status_code == 429

    right = browser.post("/admin/login/", {"username": "steve", "password": "a password of his"})
    assert "Request was throttled" in right.content.decode()


def test_lets_staff_into_the_admin(staff):
    answer = Client().post("/admin/login/?next=/admin/", {"username": "steve", "password": "a password of his"})
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")
