"""The pytest plugin: what it says was published, and its deliveries, crashes and runs to rest."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection, transaction

from outbox import handles, publish, registry
from outbox.consuming.applying import Tally
from outbox.models import FailedMessage, InboxEvent, OutboxEvent
from outbox.testing import STEPS
from outbox.tests import sample
from outbox.tests.sample import ThingClosed, ThingCounted, ThingEchoed, ThingIgnored

GROUPS = ["chain", "sample"]
ONE, TWO = ThingCounted(thing="a", number=1), ThingCounted(thing="a", number=2)


@transaction.atomic
def tell(*events) -> None:
    publish(*events)


class TestPublished:
    def test_events_are_instances_of_their_classes_in_order(self, outbox):
        tell(ONE, ThingClosed(thing="b"))

        assert outbox.events == [ThingCounted(thing="a", number=1), ThingClosed(thing="b")]
        assert outbox.events[0].event_id == ONE.event_id
        assert outbox.types == ["thing.counted", "thing.closed"]

    def test_the_one_event_that_is_asked_for_is_returned(self, outbox):
        tell(ONE, TWO, ThingClosed(thing="a"))

        assert outbox.published(ThingCounted, thing="a", number=2).event_id == TWO.event_id
        assert outbox.published(ThingClosed) == ThingClosed(thing="a")

    def test_a_missing_event_is_told_of_beside_what_there_is(self, outbox):
        tell(ONE)

        with pytest.raises(AssertionError) as failure:
            outbox.published(ThingCounted, number=7)
        assert str(failure.value) == (
            "0 and not 1 of ThingCounted(number=7) in what is published:\n  ThingCounted(thing='a', number=1, note='')"
        )

    def test_one_of_several_is_no_answer(self, outbox):
        tell(ONE, TWO)

        with pytest.raises(AssertionError, match=r"^2 and not 1 of ThingCounted\(thing='a'\)"):
            outbox.published(ThingCounted, thing="a")

    def test_nothing_published_is_said_so(self, outbox):
        assert outbox.events == []
        with pytest.raises(AssertionError, match="in what is published: nothing"):
            outbox.published(ThingClosed)

    def test_a_field_that_there_is_not_is_a_mistake(self, outbox):
        with pytest.raises(TypeError, match="ThingClosed has no field numbre"):
            outbox.published(ThingClosed, numbre=1)


class TestDeliver:
    def test_once_is_applied(self, outbox, effects):
        assert outbox.deliver("sample", ONE, TWO) == Tally(applied=2)
        assert effects() == [("a", 1), ("a", 2)]
        assert outbox.events == [ThingEchoed(thing="a", number=1), ThingEchoed(thing="a", number=2)]

    def test_twice_is_applied_once(self, outbox, effects):
        assert outbox.deliver("sample", ONE, times=2) == Tally(applied=1, repeated=1)
        outbox.deliver("sample", ONE)
        assert effects() == [("a", 1)]

    def test_twice_with_an_inbox_that_forgets_comes_to_the_handler_twice(self, outbox, effects):
        assert outbox.deliver("sample", ONE, times=2, forget=True).applied == 2
        assert effects() == [("a", 1), ("a", 1)]

    def test_out_of_order_is_applied_in_the_order_given(self, outbox, effects):
        outbox.deliver("sample", TWO, ONE)
        assert effects() == [("a", 2), ("a", 1)]

    def test_what_the_handler_raises_is_raised_when_the_dead_letter_is_written(self, outbox, effects):
        sample.broken["a"] = ValueError("no good")

        with pytest.raises(ValueError, match="no good") as failure:
            outbox.deliver("sample", ONE)

        assert failure.traceback[-1].path.name == "sample.py"
        assert re.match(
            "group sample could not apply thing.counted at .*; see failed_messages", failure.value.__notes__[0]
        )
        assert FailedMessage.objects.get().event_id == ONE.event_id
        assert (effects(), outbox.events) == ([], [])

    def test_an_event_that_the_inbox_would_not_remember_fails_with_the_reason(self, outbox):
        event = ThingClosed(thing="a")
        then = datetime.now(UTC) - timedelta(days=31)
        event.__dict__["event_id"] = UUID(int=(int(then.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62))

        with pytest.raises(AssertionError, match=r"could not apply thing.closed .*older than the 30 days"):
            outbox.deliver("sample", event)

    def test_to_a_group_that_does_not_handle_it_is_a_mistake(self, outbox):
        with pytest.raises(LookupError, match=r"sample handles thing.closed, thing.counted; not thing.ignored"):
            outbox.deliver("sample", ThingIgnored(thing="a"))
        with pytest.raises(LookupError, match="no consumer group 'simple'"):
            outbox.deliver("simple", ONE)


@pytest.mark.django_db(transaction=True)
class TestCrash:
    @pytest.mark.parametrize("step", STEPS)
    def test_of_a_delivery_at_any_step_leaves_the_effects_of_one(self, outbox, effects, step):
        assert outbox.deliver("sample", ONE, crash_at=[step]).applied == (0 if step == "after the commit" else 1)

        assert effects() == [("a", 1)]
        assert outbox.events == [ThingEchoed(thing="a", number=1)]
        assert InboxEvent.objects.count() == 1

    @pytest.mark.parametrize("step", STEPS)
    def test_undoes_what_was_not_committed_and_nothing_else(self, outbox, effects, step):
        outbox.deliver("sample", ONE, crash_at=[step], times=0)

        committed = step == "after the commit"
        assert effects() == ([("a", 1)] if committed else [])
        assert len(outbox.events) == InboxEvent.objects.count() == committed

    def test_may_come_at_one_step_after_the_other(self, outbox, effects):
        outbox.deliver("sample", ONE, crash_at=STEPS)
        assert effects() == [("a", 1)]

    @pytest.mark.parametrize("step", STEPS)
    def test_ends_the_connection(self, outbox, step):
        before = backend()
        outbox.deliver("sample", ONE, crash_at=[step], times=0)
        assert backend() != before

    @pytest.mark.parametrize(("step", "called"), [("before the handler", 0), ("after the handler", 1)])
    def test_at_a_handler_is_before_or_after_its_call(self, outbox, step, called):
        outbox.deliver("sample", ONE, crash_at=[step], times=0)
        assert len(sample.calls) == called

    def test_that_does_not_happen_fails(self, outbox):
        outbox.deliver("sample", ONE)
        with pytest.raises(AssertionError, match="nothing came to the step 'before the handler'"):
            outbox.deliver("sample", ONE, crash_at=["before the handler"])

    def test_at_a_step_that_there_is_not_is_a_mistake(self, outbox):
        with pytest.raises(ValueError, match="no step 'at lunch'; there are before the inbox, "):
            outbox.deliver("sample", ONE, crash_at=["at lunch"])

    def test_of_any_call_leaves_nothing(self, outbox):
        outbox.crash(lambda: tell(ONE))
        assert outbox.events == []

    def test_of_a_call_without_a_transaction_fails(self, outbox):
        with pytest.raises(AssertionError, match="nothing came to the step 'before the commit'"):
            outbox.crash(lambda: sample.write("a", 1))


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def test_a_crash_in_a_test_that_is_one_transaction_says_what_it_needs(outbox, effects):
    with pytest.raises(RuntimeError, match=r"@pytest.mark.django_db\(transaction=True\)"):
        outbox.deliver("sample", ONE, crash_at=["before the commit"])
    assert effects() == []


class TestRunToRest:
    @pytest.fixture(autouse=True)
    def chain(self, monkeypatch):
        """A group that answers each echo by closing its thing, which the group sample handles."""
        monkeypatch.setitem(registry._handlers, "chain", {})

        @handles(ThingEchoed, group="chain")
        def close(event: ThingEchoed) -> None:
            publish(ThingClosed(thing=event.thing))

    def test_brings_every_event_to_every_group_and_what_follows_too(self, outbox, effects):
        tell(ONE, ThingIgnored(thing="a"))

        delivered = outbox.run_to_rest(groups=GROUPS)

        assert delivered == [
            ("sample", ThingCounted(thing="a", number=1)),
            ("chain", ThingEchoed(thing="a", number=1)),
            ("sample", ThingClosed(thing="a")),
        ]
        assert effects() == [("a", 1), ("a", 0)]
        assert not OutboxEvent.objects.exists()
        assert outbox.types == ["thing.counted", "thing.ignored", "thing.echoed", "thing.closed"]
        assert outbox.run_to_rest(groups=GROUPS) == []

    @pytest.mark.parametrize("seed", range(10))
    def test_keeps_a_keys_order_and_applies_once_whatever_chance_does(self, outbox, effects, seed):
        tell(*(ThingCounted(thing=f"t{n % 3}", number=n) for n in range(1, 31)))

        outbox.run_to_rest(groups=GROUPS, seed=seed, repeat=0.3)

        for key in range(3):
            counted = [n for subject, n in effects() if subject == f"t{key}" and n]
            assert counted == [n for n in range(1, 31) if n % 3 == key]
        assert outbox.types.count("thing.closed") == 30

    def test_is_the_same_again_with_the_same_seed_and_another_with_another(self, outbox):
        def run(seed: int) -> list[tuple]:
            tell(*(ThingCounted(thing=f"t{n % 3}", number=n) for n in range(30)))
            return [
                (group, event.type, event.thing)
                for group, event in outbox.run_to_rest(groups=GROUPS, seed=seed, repeat=0.2)
            ]

        first, again, other = run(1), run(1), run(2)
        assert first == again != other

    def test_repeats_what_the_inbox_knows_or_has_forgotten(self, outbox, effects):
        tell(*(ThingCounted(thing="a", number=n) for n in range(50)))
        assert len(outbox.run_to_rest(groups=["sample"], seed=1, repeat=0.5)) > 50
        assert len(effects()) == 50

        tell(*(ThingCounted(thing="b", number=n) for n in range(50)))
        delivered = outbox.run_to_rest(groups=["sample"], seed=1, repeat=0.5, forget=True)
        assert len(effects()) == 50 + len(delivered)

    def test_shows_what_a_handler_raised(self, outbox):
        tell(ONE)
        sample.broken["a"] = ValueError("no good")

        with pytest.raises(ValueError, match="no good"):
            outbox.run_to_rest(groups=GROUPS)

    def test_that_finds_no_rest_says_who_keeps_it_up(self, outbox, monkeypatch):
        monkeypatch.setitem(registry._handlers, "players", {})

        @handles(ThingIgnored, group="players")
        def throw_back(event: ThingIgnored) -> None:
            publish(ThingIgnored(thing=event.thing))

        tell(ThingIgnored(thing="ball"))
        with pytest.raises(
            AssertionError, match=r"no rest after 20 deliveries.*\n  players: ThingIgnored\(thing='ball"
        ):
            outbox.run_to_rest(groups=["players"], limit=20)

    def test_cannot_repeat_by_chance_without_a_seed(self, outbox):
        with pytest.raises(ValueError, match="seed"):
            outbox.run_to_rest(repeat=0.5)
