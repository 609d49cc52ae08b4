"""What the API says of itself."""

import json

import jsonschema
import openapi_spec_validator
import pytest
import yaml
from django.conf import settings
from django.core.management import call_command

from config import views
from config.refusals import EXAMPLES, REFUSALS
from config.schema import PATH_EXAMPLES

FILE = settings.BASE_DIR / "docs/openapi.json"
RENEW = "manage.py spectacular --format openapi-json --file docs/openapi.json --validate"
JSON = "application/json"
PROBLEM = "application/problem+json"
COMMITTED = json.loads(FILE.read_text())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the API says of itself now."""
    file = tmp_path_factory.mktemp("schema") / "openapi.json"
    call_command("spectacular", format="openapi-json", validate=True, fail_on_warn=True, file=str(file))
    return file.read_text()


@pytest.fixture(scope="module")
def schema(written):
    return json.loads(written)


def operations(schema):
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]


def referred(schema, part):
    """Return a part of the schema, or what it refers to."""
    return schema["components"]["responses"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part


def answers(schema, operation, statuses):
    """Return the answers of an operation, by status, whose status begins as said."""
    return {
        status: referred(schema, answer)
        for status, answer in operation["responses"].items()
        if status.startswith(statuses)
    }


def having_parameter(schema, name):
    return {
        call
        for call, operation in operations(schema)
        if name in [parameter["name"] for parameter in operation.get("parameters", [])]
    }


def test_is_committed_as_it_is(written):
    assert written == FILE.read_text(), f"docs/openapi.json is stale; renew it: {RENEW}"


def test_is_valid(schema):
    openapi_spec_validator.validate(schema)


def test_is_openapi_3_1(schema):
    assert schema["openapi"] == "3.1.0"


def test_names_every_call_of_the_contract(schema):
    assert {name for name, _ in operations(schema)} == {
        f"{call.split()[0]} /api/v1/{call.split()[1]}"
        for call in (
            "POST users/",
            "GET users/me/",
            "PATCH users/me/",
            "POST users/me/password/",
            "POST auth/token/",
            "DELETE auth/token/",
            "DELETE auth/tokens/",
            "POST users/{username}/follow/",
            "DELETE users/{username}/follow/",
            "GET products/",
            "POST products/",
            "GET products/{sku}/",
            "PATCH products/{sku}/",
            "POST products/{sku}/receipts/",
            "GET orders/",
            "POST orders/",
            "GET orders/{id}/",
            "GET orders/{id}/timeline/",
            "POST orders/{id}/cancel/",
            "GET wallet/",
            "GET wallet/entries/",
            "POST wallet/deposits/",
            "GET notifications/",
            "POST notifications/{id}/read/",
            "POST notifications/read-all/",
            "GET posts/",
            "POST posts/",
            "GET posts/{id}/",
            "GET analytics/sales/",
            "GET analytics/funnel/",
            "GET analytics/products/",
            "GET coupons/",
            "POST coupons/",
            "GET coupons/{code}/",
            "POST coupons/{code}/issue/",
            "GET coupon-requests/{id}/",
            "GET my-coupons/",
        )
    }


def test_documents_each_refusal_with_its_codes(schema):
    for call, operation in operations(schema):
        refusals = answers(schema, operation, ("4", "5"))
        assert {"400", "429", "503"} <= refusals.keys(), call
        for status, refusal in refusals.items():
            content = refusal["content"][PROBLEM]
            told = content["schema"]["allOf"][1]["properties"]
            documents = {code: example["value"] for code, example in content["examples"].items()}
            assert list(documents) == told["code"]["enum"], call
            for code, document in documents.items():
                assert (document["status"], document["code"]) == (int(status), code)


def test_documents_what_a_cancel_may_be_answered_with(schema):
    refusals = answers(schema, schema["paths"]["/api/v1/orders/{id}/cancel/"]["post"], ("4", "5"))
    codes = {status: set(refusal["content"][PROBLEM]["examples"]) for status, refusal in refusals.items()}
    assert codes == {
        "400": {"bad_request", "invalid", "parse_error", "unknown_field"},
        "401": {"authentication_failed", "not_authenticated"},
        "404": {"not_found"},
        "406": {"not_acceptable"},
        "409": {"already_cancelled", "cancel_window_closed"},
        "411": {"length_required"},
        "413": {"too_large"},
        "415": {"unsupported_media_type"},
        "429": {"throttled"},
        "503": {"unavailable"},
    }


def test_documents_when_to_come_back_and_how_to_authenticate(schema):
    told = {"401": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}
    for call, operation in operations(schema):
        for status, answer in answers(schema, operation, tuple(told)).items():
            assert answer["headers"].keys() == {told[status]}, (call, status)
            assert answer["headers"][told[status]]["required"], (call, status)


def test_knows_an_example_of_every_refusal():
    assert {type(error) for error in EXAMPLES} == REFUSALS.keys()


def test_takes_a_key_with_every_creating_call(schema):
    assert having_parameter(schema, "Idempotency-Key") == {
        f"POST /api/v1/{path}"
        for path in (
            "users/",
            "users/{username}/follow/",
            "products/",
            "products/{sku}/receipts/",
            "orders/",
            "wallet/deposits/",
            "posts/",
            "coupons/",
            "coupons/{code}/issue/",
        )
    }


def test_tells_which_answers_have_an_etag(schema):
    products = {"GET /api/v1/products/", "GET /api/v1/products/{sku}/"}
    assert having_parameter(schema, "If-None-Match") == products
    change = "PATCH /api/v1/products/{sku}/"
    assert having_parameter(schema, "If-Match") == {*products, change}
    assert {
        call
        for call, operation in operations(schema)
        if any("ETag" in answer.get("headers", {}) for answer in answers(schema, operation, ("2", "3")).values())
    } == {*products, change}


def test_says_that_input_is_strict(schema):
    bodies = {
        name
        for _, operation in operations(schema)
        if (body := operation.get("requestBody"))
        for name in [body["content"][JSON]["schema"]["$ref"].rpartition("/")[2]]
    }
    assert bodies
    assert all(schema["components"]["schemas"][name]["additionalProperties"] is False for name in bodies)


@pytest.mark.parametrize(("call", "operation"), operations(COMMITTED), ids=[call for call, _ in operations(COMMITTED)])
def test_shows_examples_that_fit(call, operation):
    described = [*answers(COMMITTED, operation, ("2", "4", "5")).values(), operation.get("requestBody", {})]
    contents = [content for part in described for content in part.get("content", {}).values()]
    for content in contents:
        # The one body that has none takes none.
        if content["schema"] != {"$ref": "#/components/schemas/Nothing"}:
            [*examples] = content["examples"].values()
            assert examples
            for example in examples:
                jsonschema.validate(example["value"], {**COMMITTED, **content["schema"]})


@pytest.mark.parametrize("kept", operations(COMMITTED), ids=[call for call, _ in operations(COMMITTED)])
def test_answers_its_examples_with_success(api, shop, kept):
    call, operation = kept
    method, path = call.split()
    content = operation.get("requestBody", {}).get("content", {}).get(JSON, {})
    body = content.get("examples", {}).get("Example", {}).get("value")
    [(status, success)] = answers(COMMITTED, operation, "2").items()

    response = api(shop).generic(
        method, path.format(**PATH_EXAMPLES), json.dumps(body) if body else "", content_type=JSON
    )
    assert response.status_code == int(status), response.content
    required = {name for name, header in success.get("headers", {}).items() if header.get("required")}
    assert required <= response.headers.keys()
    if "content" in success:
        jsonschema.validate(response.json(), {**COMMITTED, **success["content"][JSON]["schema"]})


def test_tells_that_every_call_may_be_refused_for_the_headers_of_a_body(schema):
    for call, operation in operations(schema):
        assert {"411", "413", "415"} <= operation["responses"].keys(), call


def test_tells_which_calls_need_no_token(schema):
    assert {name for name, operation in operations(schema) if not any(operation.get("security", []))} == {
        "POST /api/v1/users/",
        "POST /api/v1/auth/token/",
        "GET /api/v1/products/",
        "GET /api/v1/products/{sku}/",
    }


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/vnd.oai.openapi"),
        ("application/yaml", "application/yaml"),
        (JSON, JSON),
        ("application/vnd.oai.openapi+json", "application/vnd.oai.openapi+json"),
    ],
)
def test_is_served_in_yaml_and_json(anybody, accept, content_type):
    answer = anybody.get("/api/schema/", headers={"Accept": accept})
    assert answer["Content-Type"] == content_type
    assert (json.loads if "json" in content_type else yaml.safe_load)(answer.content) == COMMITTED


def test_can_be_had_in_either_form_by_its_address(anybody, problem):
    assert anybody.get("/api/schema/?format=json").json()["openapi"] == "3.1.0"
    assert anybody.get("/api/schema/?format=yaml").content.startswith(b"openapi: 3.1.0")
    assert problem(anybody.get("/api/schema/?format=xml")) == (400, "invalid")


@pytest.mark.parametrize("query", ["version=%0A", "version=x", "lang=de", "lang=%0A"])
def test_is_the_same_whatever_is_asked_for(anybody, problem, query):
    assert problem(anybody.get(f"/api/schema/?{query}")) == (400, "unknown_field")


def test_is_made_once_in_each_process(anybody):
    for _ in range(2):
        anybody.get("/api/schema/")
    before = views.document.cache_info()
    anybody.get("/api/schema/", headers={"Accept": JSON, "Accept-Language": "de"})
    anybody.get("/api/schema/", headers={"Accept": f"{JSON}; q=0.5"})
    assert views.document.cache_info().misses <= before.misses + 1


def test_is_shown_without_foreign_hosts(anybody):
    page = anybody.get("/api/docs/").content.decode()
    assert "/static/drf_spectacular_sidecar/swagger-ui-dist/" in page
    assert "https://" not in page


def test_is_where_the_root_leads(anybody):
    assert anybody.get("/")["Location"] == "/api/docs/"


def test_writes_nothing_that_only_openapi_3_0_knows(schema):
    assert "nullable" not in json.dumps(schema)


def test_a_page_at_the_end_of_a_list_fits_its_schema(schema, api, customer):
    page = schema["components"]["schemas"]["PaginatedOrderOutList"]
    jsonschema.validate(api(customer).get("/api/v1/orders/").json(), {**schema, **page})
