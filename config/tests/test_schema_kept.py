"""The application keeps to docs/openapi.json, whatever it is sent: schemathesis writes requests and judges answers.

It tries the examples, then the edges of what the document allows and forbids, then any requests, and judges status,
type, headers and body of each answer, whether a token that is missing or wrong is refused, whether input that the
document forbids is, and whether input that it allows is taken.
"""

import hypothesis
import pytest
import schemathesis
from django.conf import settings
from knox.models import AuthToken
from schemathesis.openapi.checks import RejectedPositiveData

from config.models import IdempotencyKey
from config.wsgi import application

# Of any examples in each phase that makes them up.
MAX_EXAMPLES = 10
# Refusals for what only the shop knows, so that no document can foretell them.
KNOWN_TO_THE_SHOP = {
    *("duplicate_code", "duplicate_request", "duplicate_sku", "precondition_failed", "taken"),
    *("unknown_coupon", "unknown_sku", "wrong_password"),
}
# Fields that can be refused for it with the code "invalid": a weak password, nobody's name. And what the document does
# not tell: what another field forbids.
FIELDS_KNOWN_TO_THE_SHOP = {
    ("POST /api/v1/users/", "password"),
    ("POST /api/v1/users/me/password/", "new_password"),
    ("POST /api/v1/wallet/deposits/", "username"),
    # A time that is over before it begins, or of which there are too many hours.
    *((f"GET /api/v1/analytics/{path}/", name) for path in ("sales", "funnel", "products") for name in ("from", "to")),
    ("POST /api/v1/coupons/", "amount_off"),
    ("POST /api/v1/coupons/", "ends_at"),
}

CONFIG = schemathesis.Config.from_dict(
    {
        # The same requests in each run.
        "seed": 5,
        "generation": {"deterministic": True, "max-examples": MAX_EXAMPLES, "no-shrink": True, "database": "none"},
    }
)
schema = schemathesis.openapi.from_path(settings.BASE_DIR / "docs/openapi.json", config=CONFIG)
schema.app = application


@schema.hook
def filter_body(context, body):
    """Leave out 3.0, which JSON Schema takes for an integer: the API reads whole numbers only from 3."""
    return not any(isinstance(value, float) and value.is_integer() for value in values(body))


def values(nested):
    if isinstance(nested, dict | list):
        for part in nested.values() if isinstance(nested, dict) else nested:
            yield from values(part)
    else:
        yield nested


@schema.hook
def filter_failure(context, failure, case, response):
    """Accept that what the document allows is refused for what only the shop knows."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    refusal = response.json()
    fields = {(case.operation.label, name) for name in refusal.get("errors", {})}
    return refusal["code"] not in KNOWN_TO_THE_SHOP and not (fields and fields <= FIELDS_KNOWN_TO_THE_SHOP)


@pytest.fixture(params=["alice", "admin"])
def caller(request, one_connection, shop):
    """A customer, and staff."""
    shop.username, shop.is_staff = request.param, request.param == "admin"
    shop.save()
    return shop


@schema.parametrize()
@hypothesis.settings(suppress_health_check=list(hypothesis.HealthCheck), deadline=None)
def test_answers_as_it_says(case, caller):
    # A new one each time, since some operations revoke it.
    headers = {"Authorization": f"Token {AuthToken.objects.create(user=caller)[1]}"}
    # Or the same key would come with another body.
    IdempotencyKey.objects.all().delete()
    response = case.call_and_validate(headers=headers)
    if case.method == "POST" and "Idempotency-Key" in case.headers and response.status_code < 400:
        replayed = case.call_and_validate(headers=headers)
        assert replayed.headers["idempotent-replayed"] == ["true"]
        assert replayed.content == response.content
