"""The short form of the fault proof."""

from outbox.tests.chaos import chaos

SECONDS = 20


def test_relays_and_consumers_killed_in_turn_lose_double_and_reorder_nothing(kafka):
    outcome = chaos(SECONDS)

    assert outcome.is_good, outcome
    assert outcome.killed >= SECONDS / 4
    assert outcome.published > 1_000
