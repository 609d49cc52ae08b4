"""Every refusal below /api/ is a problem document."""

import json
from base64 import b64encode
from io import BytesIO
from wsgiref.util import setup_testing_defaults

import pytest
from django.db import connection
from django.http import HttpResponse
from django.urls import path
from rest_framework.views import APIView

from config.urls import urlpatterns as real_urlpatterns
from config.wsgi import application


class Broken(APIView):
    permission_classes = []

    def get(self, request):
        raise RuntimeError("a secret")


urlpatterns = [path("api/v1/broken/", Broken.as_view()), *real_urlpatterns]

JSON = "application/json"
# Parameters in the form of RFC 2231: of a charset that there is not, and one in two forms at once.
UNREADABLE = ["a*=nope''x", "a*0=x; a*=y"]


@pytest.fixture
def postgres_away(transactional_db):
    """Let connections go to a port on which nobody listens."""
    there = connection.settings_dict
    connection.close()
    connection.settings_dict = {**there, "HOST": "127.0.0.1", "PORT": "1"}
    yield
    connection.close()
    connection.settings_dict = there


@pytest.fixture
def ask(one_connection):
    """Return a function that asks the application itself: Django's test client makes its requests otherwise."""

    def send(method, path, body=b"", **environ):
        answered = {}

        def start_response(status, headers):
            answered.update(headers, status=int(status.split()[0]))

        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "HTTP_HOST": "localhost",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": BytesIO(body),
            **environ,
        }
        setup_testing_defaults(environ)
        answer = application(environ, start_response)
        text = b"".join(answer)
        answer.close()
        return HttpResponse(text, status=answered.pop("status"), headers=answered)

    return send


@pytest.mark.parametrize(
    "unknown", ["/api/", "/api/v1/", "/api/v2/orders/", "/api/v1/nope", "/api/v1/%00/", "/api/v1/%ff"]
)
@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_answers_an_unknown_path(anybody, problem, method, unknown):
    assert problem(getattr(anybody, method)(unknown)) == (404, "not_found")


def test_takes_no_path_without_its_last_slash(anybody, problem):
    assert problem(anybody.post("/api/v1/users", {})) == (404, "not_found")


def test_leaves_other_paths_alone(anybody):
    response = anybody.get("/nope")
    assert (response.status_code, response["Content-Type"].split(";")[0]) == (404, "text/html")


@pytest.mark.django_db
def test_answers_a_method_that_there_is_not(api, customer, problem):
    response = api(customer).put("/api/v1/orders/", {})
    assert problem(response) == (405, "method_not_allowed")
    assert {"GET", "POST"} <= set(response["Allow"].split(", "))


@pytest.mark.django_db
def test_answers_a_type_that_it_cannot_make(anybody, problem):
    assert problem(anybody.get("/api/v1/users/me/", HTTP_ACCEPT="text/csv")) == (406, "not_acceptable")


@pytest.mark.parametrize("parameters", UNREADABLE)
@pytest.mark.django_db
def test_makes_no_type_that_cannot_be_read(api, customer, problem, parameters):
    client, url = api(customer), "/api/v1/users/me/"
    assert problem(client.get(url, HTTP_ACCEPT=f"{JSON}; {parameters}")) == (406, "not_acceptable")
    assert client.get(url, HTTP_ACCEPT=f"{JSON}; {parameters}, */*").status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "nonsense",
        "application/xml",
    ],
)
def test_takes_no_other_type_than_json(anybody, problem, content_type):
    response = anybody.generic("POST", "/api/v1/users/", b"username=x", content_type=content_type)
    assert problem(response) == (415, "unsupported_media_type")


@pytest.mark.parametrize("charset", ["utf-16", "latin-1", "hex", "idna", "undefined", "nonsense", "utf-8"])
@pytest.mark.parametrize("query", ["x=%ff", "&".join(["x"] * 1001)])
def test_survives_any_charset_and_query(ask, problem, charset, query):
    content_type = f"{JSON}; charset={charset}"
    answer = ask("POST", "/api/v1/nope/", b"{}", QUERY_STRING=query, CONTENT_TYPE=content_type)
    assert problem(answer)[0] == (404 if charset == "utf-8" else 415)
    # Without a body there is nothing that could be in another charset.
    for method in ("GET", "POST"):
        assert problem(ask(method, "/api/v1/nope/", QUERY_STRING=query, CONTENT_TYPE=content_type))[0] == 404


@pytest.mark.parametrize("parameters", UNREADABLE)
@pytest.mark.parametrize("path", ["/api/v1/users/", "/api/v1/auth/token/"])
def test_takes_no_type_that_cannot_be_read(ask, problem, path, parameters):
    answer = ask("POST", path, b"{}", CONTENT_TYPE=f"{JSON}; {parameters}")
    assert problem(answer) == (415, "unsupported_media_type")


@pytest.mark.parametrize("parameters", UNREADABLE)
@pytest.mark.parametrize("path", ["/healthz", "/api/docs/"])
def test_survives_a_type_that_cannot_be_read_where_there_is_no_body(ask, path, parameters):
    assert ask("GET", path, CONTENT_TYPE=f"{JSON}; {parameters}").status_code == 200


def test_refuses_a_query_of_too_many_parts(anybody, problem):
    assert problem(anybody.get("/api/v1/products/?" + "&".join(["x"] * 1001))) == (400, "bad_request")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b"",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1' + b"0" * 5000 + b"}",
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": "\x00"}',
        b"\x00",
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_takes_no_malformed_json(anybody, problem, body):
    response = anybody.generic("POST", "/api/v1/users/", body, content_type=JSON)
    # An empty body is one without any field.
    assert problem(response) == (400, "parse_error" if body else "invalid")


@pytest.mark.parametrize("document", [None, [], [{}], "text", 1, 1.5, True])
def test_takes_nothing_but_an_object(anybody, problem, document):
    response = anybody.generic("POST", "/api/v1/users/", json.dumps(document).encode(), content_type=JSON)
    assert problem(response) == (400, "invalid")
    assert response.json()["errors"].keys() == {"non_field_errors"}


@pytest.mark.parametrize("url", ["/api/v1/users/", "/api/v1/orders/", "/api/v1/nope/"])
def test_takes_no_body_above_a_mebibyte(anybody, problem, url):
    response = anybody.generic("POST", url, b" " * (1024 * 1024 + 1), content_type=JSON)
    assert problem(response) == (413, "too_large")


def test_takes_a_body_of_a_mebibyte(anybody, problem):
    response = anybody.generic("POST", "/api/v1/users/", b"{}".ljust(1024 * 1024), content_type=JSON)
    assert problem(response) == (400, "invalid")


def test_takes_no_body_of_unknown_length(anybody, problem):
    response = anybody.generic("POST", "/api/v1/users/", b"{}", content_type=JSON, HTTP_TRANSFER_ENCODING="chunked")
    assert problem(response) == (411, "length_required")


@pytest.mark.parametrize("https", [False, True])
def test_answers_for_a_host_that_is_not_its_own(anybody, problem, settings, https):
    settings.SECURE_SSL_REDIRECT = https
    answer = anybody.get("/api/v1/products/", HTTP_HOST="elsewhere.example")
    assert problem(answer) == (400, "bad_request")
    assert answer["Cache-Control"] == "no-store"
    page = anybody.get("/admin/", HTTP_HOST="elsewhere.example")
    assert (page.status_code, page["Content-Type"].split(";")[0]) == (400, "text/html")


@pytest.mark.urls(__name__)
def test_tells_nothing_of_a_bug(anybody, problem, caplog):
    response = anybody.get("/api/v1/broken/")
    assert problem(response) == (500, "internal_server_error")
    assert b"secret" not in response.content
    # But it is in the log.
    assert "a secret" in caplog.text


@pytest.mark.parametrize(
    "cursor",
    [
        b"\0",
        b"\xff",
        b"p=nonsense",
        b"p=2026-99-99",
        b"p=0001-01-01T00:00:00%2B14:00",
        b"p=9999-12-31T23:59:59-14:00",
        b"p=%00",
        b"p=%ff",
        b"o=-1",
        b"o=9999999999999999999",
        b"r=1",
        b"r=x&p=",
    ],
)
@pytest.mark.parametrize("path", ["products/", "orders/", "wallet/entries/", "notifications/", "posts/"])
@pytest.mark.django_db
def test_survives_any_cursor(api, customer, path, cursor):
    client = api(customer)
    for text in (cursor, b64encode(cursor)):
        assert client.get(f"/api/v1/{path}", {"cursor": text}).status_code in (200, 404)


@pytest.mark.parametrize("page_size", ["0", "-1", "x", "1.0", "1e3", " 1", "٣", "", "%00", "%ff"])
@pytest.mark.django_db
def test_takes_no_page_size_but_a_whole_number_above_zero(anybody, problem, page_size):
    response = anybody.get(f"/api/v1/products/?page_size={page_size}")
    assert problem(response) == (400, "invalid")
    assert response.json()["errors"].keys() == {"page_size"}


@pytest.mark.parametrize("page_size", ["1", "007", "200", "201", "9" * 5000])
@pytest.mark.django_db
def test_takes_any_page_size_above_zero(anybody, page_size):
    assert anybody.get(f"/api/v1/products/?page_size={page_size}").status_code == 200


@pytest.mark.parametrize("path", ["products/", "orders/", "wallet/entries/", "notifications/", "posts/"])
@pytest.mark.django_db
def test_knows_the_parameters_of_a_list(api, customer, problem, path):
    response = api(customer).get(f"/api/v1/{path}", {"stauts": "PENDING", "page_size": "1"})
    assert problem(response) == (400, "unknown_field")
    assert response.json()["errors"].keys() == {"stauts"}


@pytest.mark.parametrize("name", ["format", "limit", "status"])
@pytest.mark.django_db
def test_knows_no_parameters_of_other_lists(anybody, problem, name):
    assert problem(anybody.get("/api/v1/products/", {name: "1"})) == (400, "unknown_field")


@pytest.mark.django_db
def test_keeps_what_is_ones_own_out_of_caches(api, customer):
    response = api(customer).get("/api/v1/users/me/")
    assert response["Cache-Control"] == "no-store"
    assert response["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["users/me/", "products/", "orders/"])
def test_asks_to_come_back_while_postgresql_is_away(anybody, problem, postgres_away, path):
    response = anybody.get(f"/api/v1/{path}", HTTP_AUTHORIZATION="Token " + "a" * 64)
    assert problem(response) == (503, "unavailable")
    assert int(response["Retry-After"]) > 0


def test_works_again_when_postgresql_is_back(anybody, problem, transactional_db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    other.close()
    assert problem(anybody.get("/api/v1/products/")) == (503, "unavailable")
    # As Django does at the end of a request that is not a test's.
    connection.close_if_unusable_or_obsolete()
    assert anybody.get("/api/v1/products/").status_code == 200


def test_registers_nobody_while_postgresql_is_away(anybody, problem, postgres_away):
    body = {"username": "dora", "email": "dora@example.com", "password": "correct horse"}
    assert problem(anybody.post("/api/v1/users/", body)) == (503, "unavailable")
    assert problem(anybody.post("/api/v1/auth/token/", {"username": "dora", "password": "x"})) == (503, "unavailable")
