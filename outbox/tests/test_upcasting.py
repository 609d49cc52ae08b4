"""Reading older versions of an event."""

import json

import msgspec
import pytest

from outbox import upcasts
from outbox.events import Unreadable, encode, read_envelope, read_event
from outbox.record import read
from outbox.registry import Handler
from outbox.tests.declared import declare
from outbox.tests.records import record_of


def envelope(version, **fields):
    """Return the envelope of a thing.made of some version."""
    value = json.loads(encode(declare()(thing="a")))
    return read_envelope(json.dumps({**value, "version": version, "data": fields}).encode())


def third_version():
    """Return a class that came to its fields in two steps: a name was split, then a size got a unit."""
    cls = declare(version=3, first_name=str, last_name=str, size_mm=int)

    @upcasts(cls, version=1)
    def split_name(data):
        first, _, last = data.pop("name").partition(" ")
        return {**data, "firstName": first, "lastName": last}

    @upcasts(cls, version=2)
    def state_unit(data):
        return {**data, "sizeMm": data["sizeCm"] * 10}

    return cls


def test_an_older_version_goes_through_each_upcaster_up_to_ours():
    event = read_event(envelope(1, thing="a", name="Ada Lovelace", sizeCm=2), third_version())

    assert (event.thing, event.first_name, event.last_name, event.size_mm) == ("a", "Ada", "Lovelace", 20)


def test_a_version_in_between_goes_through_the_later_upcasters_alone():
    event = read_event(envelope(2, thing="a", firstName="Ada", lastName="L", sizeCm=2), third_version())

    assert (event.first_name, event.size_mm) == ("Ada", 20)


def test_our_version_goes_through_none():
    event = read_event(envelope(3, thing="a", firstName="Ada", lastName="L", sizeMm=7), third_version())

    assert event.size_mm == 7


def test_keeps_the_id_and_the_time_of_the_envelope():
    old = envelope(2, thing="a", firstName="Ada", lastName="L", sizeCm=2)

    event = read_event(old, third_version())

    assert (event.event_id, event.occurred_at) == (old.event_id, old.timestamp)


@pytest.mark.parametrize("version", [0, -1, -(10**12), 4, 10**12])
def test_a_version_from_which_nothing_leads_to_ours_is_unreadable(version):
    with pytest.raises(Unreadable, match=f"version 3 here, not {version}"):
        read_event(envelope(version, thing="a"), third_version())


def test_a_version_with_a_gap_on_its_way_is_unreadable():
    cls = declare(version=3)
    upcasts(cls, version=1)(lambda data: data)

    with pytest.raises(Unreadable, match="version 3 here, not 1"):
        read_event(envelope(1, thing="a"), cls)


def test_what_an_upcaster_raises_is_the_reason_why_the_event_is_unreadable():
    with pytest.raises(Unreadable, match=r"version 1 of thing\.made cannot be upcast: KeyError: 'name'"):
        read_event(envelope(1, thing="a"), third_version())


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"thing": 5}, r"the data are no thing\.made"),
        ({}, r"the data are no thing\.made"),
        (None, r"the data are no thing\.made"),
        ({"thing": object()}, "is no JSON"),
    ],
)
def test_an_upcaster_whose_result_does_not_fit_makes_the_event_unreadable(made, reason):
    cls = declare(version=2)
    upcasts(cls, version=1)(lambda data: made)

    with pytest.raises(Unreadable, match=reason):
        read_event(envelope(1, thing="a"), cls)


@pytest.mark.parametrize("data", [b"[]", b"null", b'"a"', b"[" * 100_000 + b"]" * 100_000])
def test_data_that_are_no_object_never_come_to_an_upcaster(data):
    old = msgspec.structs.replace(envelope(1), data=msgspec.Raw(data))

    with pytest.raises(Unreadable, match=r"the data are no thing\.made"):
        read_event(old, third_version())


def test_a_group_reads_an_older_version_as_its_handler_expects_it():
    cls = third_version()
    record = record_of(declare(version=2, first_name=str, last_name=str, size_cm=int)(
        thing="a", first_name="Ada", last_name="L", size_cm=2
    ))  # fmt: skip

    reading = read(record, {"thing.made": Handler("sample", cls, print, bulk=False)})

    assert reading.unreadable is None
    assert reading.event.size_mm == 20


def test_a_version_is_upcast_in_one_way_only():
    cls = third_version()

    with pytest.raises(ValueError, match=r"version 1 of thing\.made is upcast already"):
        upcasts(cls, version=1)(lambda data: data)


@pytest.mark.parametrize("version", [0, 3, 4])
def test_only_a_version_that_has_a_next_one_can_be_upcast(version):
    with pytest.raises(ValueError, match=f"nothing follows on {version}"):
        upcasts(declare(version=3), version=version)
