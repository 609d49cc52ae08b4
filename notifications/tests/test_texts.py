"""What notifications say, in each language."""

import re
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_file
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

from coupons.models import Request
from notifications import texts
from notifications.kinds import Kind
from notifications.samples import CONTEXTS, SUBJECT_ID, sample_for_operators
from notifications.texts import REASONS, TEXTS, write
from orders.models import Order

CATALOG = Path(texts.__file__).parent / "locale/ko/LC_MESSAGES/django"
SOURCE = Path(texts.__file__)
HANGUL = re.compile("[가-힣]")


def translations(suffix, read):
    with CATALOG.with_suffix(suffix).open("rb") as file:
        return {message.id: message.string for message in read(file) if message.id}


def test_there_are_words_for_everything_that_is_told():
    assert TEXTS.keys() == CONTEXTS.keys() == set(Kind)
    assert REASONS[Kind.ORDER_CANCELLED].keys() == set(Order.CancelReason)
    assert REASONS[Kind.COUPON_REJECTED].keys() == {*Request.Status} - {"QUEUED", "SUCCESS"}


@pytest.mark.parametrize("kind", Kind)
def test_a_text_names_what_its_context_has_in_each_language(kind):
    for language in ("en", "ko"):
        text = write(kind, CONTEXTS[kind], subject_id=SUBJECT_ID, language=language)
        said = f"{text.title} {text.body} {dict(text.facts)}"
        assert "%" not in said
        for name, value in CONTEXTS[kind].items():
            if name not in ("at", "reason"):
                assert value in said
        assert bool(HANGUL.search(text.title)) == (language == "ko")


@pytest.mark.parametrize(("kind", "reason"), [(kind, reason) for kind in REASONS for reason in REASONS[kind]])
def test_a_reason_is_told_in_each_language(kind, reason):
    english, korean = (
        write(kind, {**CONTEXTS[kind], "reason": reason}, subject_id=None, language=language).body
        for language in ("en", "ko")
    )
    assert english == REASONS[kind][reason]
    assert HANGUL.search(korean)


@pytest.mark.parametrize(("language", "words"), [("en", "you"), ("ko", "하신")])
def test_does_not_tell_whose_wish_it_was_to_cancel(language, words):
    # The shop's people cancel orders under the same reason.
    text = write(Kind.ORDER_CANCELLED, {"reason": "CUSTOMER"}, subject_id=None, language=language)
    assert words not in text.body.lower()


@pytest.mark.parametrize("language", ["en", "ko"])
def test_operators_are_told_order_amount_customer_and_time(language):
    values = [value for _, value in sample_for_operators(language).text.facts]
    assert values == [str(SUBJECT_ID), "37.80 USD", "alice", "2026-11-28 19:15 UTC"]


def test_what_people_write_is_no_pattern_and_no_second_line():
    context = {"author": "bob %(title)s %s\r\nBcc: all@example.com", "title": "100 % {author}"}
    text = write(Kind.NEW_POST, context, subject_id=None, language="en")
    assert text.title == "bob %(title)s %s Bcc: all@example.com has published a post"
    assert text.body == "100 % {author}"


def test_the_catalog_has_all_words_and_no_others():
    found = {message for _, message, *_ in extract_from_file("python", SOURCE, keywords={"_": None})}
    catalog = translations(".po", read_po)
    assert catalog.keys() == found
    assert all(HANGUL.search(translation) for translation in catalog.values())


def test_a_translation_names_what_the_original_does():
    for original, translation in translations(".po", read_po).items():
        assert sorted(re.findall(r"%\(\w+\)s", original)) == sorted(re.findall(r"%\(\w+\)s", translation))


def test_the_compiled_catalog_is_that_of_the_source():
    assert translations(".mo", read_mo) == translations(".po", read_po)
