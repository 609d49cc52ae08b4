"""Users in the admin: added by the service, found, and safe from who may only change customers."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.urls import reverse
from knox.models import AuthToken

from accounts import services
from accounts.models import Follow, User

pytestmark = pytest.mark.django_db

RIGHTS = ["is_staff", "is_superuser", "groups", "user_permissions"]

# Lists, by what they are filtered by.
THEIRS = [
    ("orders_order", "customer"),
    ("payments_payment", "user"),
    ("notifications_notification", "user"),
    ("posts_post", "author"),
    ("accounts_follow", "followed"),
    ("accounts_follow", "follower"),
    ("knox_authtoken", "user"),
]


@pytest.fixture
def helper(client, staff):
    """The client of staff who may add and change users."""
    wanted = ["view_user", "add_user", "change_user"]
    staff.user_permissions.set(Permission.objects.filter(codename__in=wanted))
    client.force_login(staff)
    return client


def url(user, page="change"):
    return reverse(f"admin:accounts_user_{page}", args=[user.pk])


def password_url(user):
    return reverse("admin:auth_user_password_change", args=[user.pk])


def shown(client, user, **changes):
    """Return what a user's form sends, as it is shown now and changed by a person."""
    form = client.get(url(user)).context["adminform"].form
    sent = {}
    for bound in form:
        sent[bound.html_name] = bound.value()
        if bound.field.show_hidden_initial:
            sent[bound.html_initial_name] = bound.value()
    sent |= changes
    return {name: value for name, value in sent.items() if value not in (None, False)}


def test_a_user_is_added_by_the_service(admin_client, outbox):
    form = {"username": "dora", "email": "dora@example.com", "language": "ko", "usable_password": "true"}
    form |= {"password1": "correct horse", "password2": "correct horse"}
    assert admin_client.post(reverse("admin:accounts_user_add"), form).status_code == 302
    assert User.objects.get(username="dora").language == "ko"
    assert outbox.types == ["user.created"]


def test_a_users_page_leads_to_what_is_theirs(admin_client, customer):
    page = admin_client.get(url(customer)).content.decode()
    assert reverse("admin:payments_wallet_change", args=[customer.pk]) in page
    for model, query in THEIRS:
        path = f"{reverse(f'admin:{model}_changelist')}?{query}={customer.pk}"
        assert path in page
        assert admin_client.get(path).status_code == 200


def test_the_followers_of_a_user_are_listed(admin_client, customer, staff):
    services.follow(follower_id=customer.pk, followed_id=staff.pk)
    page = reverse("admin:accounts_follow_changelist")
    for query, listed in [
        ({"followed": staff.pk}, 1),
        ({"follower": staff.pk}, 0),
        ({"follower": customer.pk}, 1),
        ({"q": "carol"}, 1),
        ({"q": "dora"}, 0),
    ]:
        assert admin_client.get(page, query).context["cl"].result_count == listed
    row = Follow.objects.get()
    assert (
        "carol follows steve"
        in admin_client.get(reverse("admin:accounts_follow_change", args=[row.pk])).content.decode()
    )


def test_a_users_page_leads_only_where_one_may_go(helper, customer):
    page = helper.get(url(customer)).content.decode()
    assert reverse("admin:payments_wallet_change", args=[customer.pk]) not in page
    assert "Theirs" not in page


@pytest.mark.parametrize("term", ["carol", "carol@example.com", "{customer.pk}"])
def test_a_user_is_found(admin_client, customer, term):
    page = admin_client.get(reverse("admin:accounts_user_changelist"), {"q": term.format(customer=customer)})
    assert page.context["cl"].result_count == 1


def test_a_new_password_ends_the_users_tokens(admin_client, customer, staff):
    for user in (customer, staff):
        AuthToken.objects.create(user=user)
    form = {"usable_password": "true", "password1": "another horse", "password2": "another horse"}
    assert admin_client.post(password_url(customer), form).status_code == 302
    customer.refresh_from_db()
    assert customer.check_password("another horse")
    assert [token.user for token in AuthToken.objects.all()] == [staff]


OWN_PASSWORD = {"old_password": "a password of his", "new_password1": "another horse", "new_password2": "another horse"}


def test_ones_own_new_password_ends_ones_tokens(client, staff, customer):
    for user in (customer, staff):
        AuthToken.objects.create(user=user)
    client.force_login(staff)
    page = reverse("admin:password_change")
    assert client.get(page).status_code == 200
    answer = client.post(page, OWN_PASSWORD)
    assert answer["Location"] == reverse("admin:password_change_done")
    # Who changes it stays logged in.
    assert client.get(answer["Location"]).status_code == 200
    staff.refresh_from_db()
    assert staff.check_password("another horse")
    assert [token.user for token in AuthToken.objects.all()] == [customer]


def test_who_does_not_know_the_old_password_ends_nothing(client, staff):
    AuthToken.objects.create(user=staff)
    client.force_login(staff)
    answer = client.post(reverse("admin:password_change"), {**OWN_PASSWORD, "old_password": "a guess"})
    assert "old_password" in answer.context["form"].errors
    staff.refresh_from_db()
    assert staff.check_password("a password of his")
    assert AuthToken.objects.count() == 1


def test_a_customer_is_not_let_in_to_change_a_password(client, customer):
    client.force_login(customer)
    answer = client.get(reverse("admin:password_change"))
    assert answer["Location"].startswith(reverse("admin:login"))


def test_what_a_person_did_not_change_is_left_to_who_did_meanwhile(admin_client, customer):
    group = Group.objects.create(name="helpers")
    sent = shown(admin_client, customer, first_name="Carola")
    services.update_profile(user_id=customer.pk, email="new@example.com", language="ko")
    customer.set_password("another horse")
    services.save_password(user=customer)
    customer.groups.add(group)

    assert admin_client.post(url(customer), sent).status_code == 302

    customer.refresh_from_db()
    assert (customer.first_name, customer.email, customer.language) == ("Carola", "new@example.com", "ko")
    assert customer.check_password("another horse")
    assert list(customer.groups.all()) == [group]


def test_a_users_page_does_not_tell_the_hash_of_the_password(admin_client, customer):
    assert customer.password not in admin_client.get(url(customer)).content.decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", ["add", "change"])
def test_who_is_too_late_for_a_name_is_told_so(admin_client, customer, overtake, page):
    if page == "add":
        path = reverse("admin:accounts_user_add")
        form = {"username": "dora", "email": "dora@example.com", "language": "ko", "usable_password": "true"}
        form |= {"password1": "correct horse", "password2": "correct horse"}
    else:
        path, form = url(customer), shown(admin_client, customer, username="dora")

    answer = overtake(
        lambda: services.register(username="dora", email="dora@example.com", password="a password of hers"),
        lambda: admin_client.post(path, form),
    )

    assert answer.status_code == 200
    assert "username" in answer.context["adminform"].form.errors
    assert User.objects.filter(username="dora").count() == 1
    customer.refresh_from_db()
    assert customer.username == "carol"


def test_only_a_superuser_changes_groups(client, staff, admin_client):
    group = Group.objects.create(name="helpers")
    staff.groups.add(group)
    staff.user_permissions.set(Permission.objects.filter(content_type__app_label="auth", content_type__model="group"))
    client.force_login(staff)
    pages = {page: reverse(f"admin:auth_group_{page}", args=[group.pk]) for page in ("change", "delete")}
    pages["add"] = reverse("admin:auth_group_add")
    wanted = Permission.objects.get(codename="cancel_order").pk

    assert client.get(pages["change"]).status_code == 200
    for page in pages.values():
        assert client.post(page, {"name": "mine", "permissions": [wanted], "post": "yes"}).status_code == 403
    assert (Group.objects.get().name, group.permissions.count()) == ("helpers", 0)

    sent = {"name": "cashiers", "permissions": [wanted]}
    assert admin_client.post(pages["change"], sent).status_code == 302
    assert [permission.pk for permission in group.permissions.all()] == [wanted]


def test_only_a_superuser_says_who_may_do_what(helper, staff, customer):
    form = helper.get(url(customer)).context["adminform"].form
    assert not set(RIGHTS) & set(form.fields)
    wanted = Permission.objects.get(codename="cancel_order").pk
    sent = shown(helper, customer, is_staff="on", is_superuser="on", user_permissions=wanted, email="c@example.com")
    assert helper.post(url(customer), sent).status_code == 302
    customer.refresh_from_db()
    assert customer.email == "c@example.com"
    assert (customer.is_staff, customer.is_superuser, customer.user_permissions.count()) == (False, False, 0)


def test_only_a_superuser_changes_staff(helper, admin_user, staff, customer):
    form = {"usable_password": "true", "password1": "another horse", "password2": "another horse"}
    for user in (admin_user, staff):
        assert helper.post(url(user), {"username": "mine"}).status_code == 403
        assert helper.post(password_url(user), form).status_code == 403
    assert helper.post(password_url(customer), form).status_code == 302


def test_a_superuser_says_who_may_do_what(admin_client, customer):
    group = Group.objects.create(name="helpers")
    wanted = Permission.objects.get(codename="cancel_order")
    sent = shown(admin_client, customer, is_staff="on", groups=[group.pk], user_permissions=[wanted.pk])
    assert admin_client.post(url(customer), sent).status_code == 302
    customer.refresh_from_db()
    assert customer.is_staff
    assert (list(customer.groups.all()), list(customer.user_permissions.all())) == ([group], [wanted])


def test_a_user_is_not_deleted(admin_client, customer):
    assert admin_client.post(url(customer, "delete"), {"post": "yes"}).status_code == 403


def test_a_token_is_revoked(admin_client, customer):
    token = AuthToken.objects.create(user=customer)[0]
    assert admin_client.get(reverse("admin:knox_authtoken_changelist")).status_code == 200
    page = reverse("admin:knox_authtoken_delete", args=[token.pk])
    assert page in admin_client.get(reverse("admin:knox_authtoken_change", args=[token.pk])).content.decode()
    assert admin_client.post(page, {"post": "yes"}).status_code == 302
    assert not AuthToken.objects.exists()
