"""Fingerprints: the same for failures of one kind, different for different ones, and readable."""

import pytest

from outbox.letters.fingerprint import LIMIT, fingerprint


def of(message: str, event_type: str = "order.created") -> str:
    return fingerprint("stock", event_type, "ValueError", message)


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("order 17 has no lines", "order 4711 has no lines"),
        (
            "0198c5e2-6f0a-7c3e-9b1a-000000000001 is unknown",
            "0198C5E2-6F0A-7C3E-9B1A-FFFFFFFFFFFF is unknown",
        ),
        ("unknown SKU 'A001'", "unknown SKU 'it\\'s'"),
        ('invalid input: "abc"', 'invalid input: "x y"'),
        ("at 2026-01-31T08:00:00 nothing", "at 2026-02-01T09:30:12 nothing"),
        ("amount 12.50 is short", "amount 7 is short"),
        ("<object at 0x7f00aa>", "<object at 0x7f11bb>"),
        ("broken\nDETAIL: row (1)", "broken\nDETAIL: row (2)"),
    ],
)
def test_is_the_same_where_only_values_differ(one, another):
    assert of(one) == of(another)


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("no lines", "no customer"),
        (
            'new row for relation "level" violates check constraint "a"',
            'new row for relation "level" violates check constraint "b"',
        ),
    ],
)
def test_differs_where_the_reason_does(one, another):
    assert of(one) != of(another)


def test_says_group_type_error_and_reason():
    assert of("unknown SKU 'A001' in line 3") == "stock order.created ValueError: unknown SKU '…' in line #"
    assert fingerprint("stock", "", "Unreadable", "the value is null") == (
        "stock unreadable Unreadable: the value is null"
    )


def test_is_short_whatever_comes():
    assert len(of("é" * 1_000_000, "t" * 1_000_000)) <= LIMIT
    assert of("") == "stock order.created ValueError:"
