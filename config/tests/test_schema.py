"""What the API says of itself."""

import jsonschema
import pytest
import yaml
from django.core.management import call_command


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    file = tmp_path_factory.mktemp("schema") / "openapi.yaml"
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(file))
    return yaml.safe_load(file.read_text())


def operations(schema):
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]


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
        )
    }


def test_documents_problems_with_every_call(schema):
    for name, operation in operations(schema):
        for status in ("4XX", "5XX"):
            content = operation["responses"][status]["content"]
            assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}, name


def test_tells_which_calls_need_no_token(schema):
    assert {name for name, operation in operations(schema) if not any(operation.get("security", []))} == {
        "POST /api/v1/users/",
        "POST /api/v1/auth/token/",
        "GET /api/v1/products/",
        "GET /api/v1/products/{sku}/",
    }


def test_is_served(anybody):
    assert anybody.get("/api/schema/").status_code == 200


def test_is_shown_without_foreign_hosts(anybody):
    page = anybody.get("/api/docs/").content.decode()
    assert "/static/drf_spectacular_sidecar/swagger-ui-dist/" in page
    assert "https://" not in page


def test_is_where_the_root_leads(anybody):
    assert anybody.get("/")["Location"] == "/api/docs/"


def test_writes_nothing_that_only_openapi_3_0_knows(schema):
    assert "nullable" not in yaml.safe_dump(schema)


def test_a_page_at_the_end_of_a_list_fits_its_schema(schema, api, customer):
    page = schema["components"]["schemas"]["PaginatedOrderOutList"]
    jsonschema.validate(api(customer).get("/api/v1/orders/").json(), {**schema, **page})
