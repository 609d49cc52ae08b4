"""The web's metrics: by route, never by what a client may choose."""

import pytest
from prometheus_client import REGISTRY


def count(**labels) -> float:
    return REGISTRY.get_sample_value("http_requests_total", labels) or 0.0


def growth(client, verb, path, **labels) -> float:
    before = count(**labels)
    client.generic(verb, path)
    return count(**labels) - before


def test_counts_requests_by_the_pattern_of_their_route(client, db):
    route = r"/api/v1/products/(?P<sku>[^/\x00]{1,64})/$"
    for sku in ("A001", "A002"):
        assert growth(client, "GET", f"/api/v1/products/{sku}/", method="GET", route=route, status="404") == 1


@pytest.mark.parametrize("path", ["/nope", "/nope/2", "/%ff"])
def test_paths_that_there_are_not_are_one(client, db, path):
    assert growth(client, "GET", path, method="GET", route="none", status="404") == 1


def test_methods_that_nobody_knows_are_one(client):
    assert growth(client, "BREW", "/healthz", method="other", route="/healthz", status="200") == 1


def test_times_requests_and_counts_those_in_progress(client):
    labels = {"method": "GET", "route": "/healthz"}
    before = REGISTRY.get_sample_value("http_request_seconds_count", labels) or 0
    client.get("/healthz")
    assert REGISTRY.get_sample_value("http_request_seconds_count", labels) == before + 1
    assert REGISTRY.get_sample_value("http_requests_in_progress") == 0


def test_the_web_itself_shows_no_metrics(client, db):
    assert client.get("/metrics").status_code == 404
