"""System checks of the event classes."""

import pytest

from outbox import upcasts
from outbox.contracts.event_checks import check_events
from outbox.events import event_classes
from outbox.tests.declared import declare


@pytest.fixture
def found():
    """Return a function that checks these classes in the place of the project's, and returns (id, message) pairs."""
    classes = event_classes.copy()

    def check(*checked):
        event_classes[:] = checked
        return [(message.id, message.msg) for message in check_events()]

    yield check
    event_classes[:] = classes


def test_the_projects_own_events_are_in_order():
    assert check_events() == []


def test_a_gap_between_upcasters_is_an_error(found):
    cls = declare(version=4)
    upcasts(cls, version=1)(lambda data: data)
    upcasts(cls, version=3)(lambda data: data)

    assert found(cls) == [("outbox.E102", "thing.made has version 4, and nothing upcasts its version 2.")]


def test_a_last_step_that_is_missing_is_an_error(found):
    cls = declare(version=3)
    upcasts(cls, version=1)(lambda data: data)

    assert found(cls) == [("outbox.E102", "thing.made has version 3, and nothing upcasts its version 2.")]


def test_older_upcasters_may_be_gone(found):
    cls = declare(version=4)
    upcasts(cls, version=3)(lambda data: data)

    assert found(cls) == []


def test_a_newer_version_without_any_upcaster_is_warned_of(found):
    assert found(declare(version=2)) == [
        ("outbox.W101", "thing.made has version 2, and nothing upcasts its version 1.")
    ]


def test_a_first_version_needs_no_upcaster(found):
    assert found(declare()) == []


def test_two_classes_of_one_type_are_an_error(found):
    assert found(declare(), declare(name="ThingMadeAgain")) == [
        ("outbox.E101", "There are 2 event classes of type thing.made.")
    ]
