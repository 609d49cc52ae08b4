"""How few processes at a time work on what many are called to."""

from threading import Barrier

import pytest

from config import locks

KEY = 0x7465737400


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("places", [1, 3])
def test_gives_so_many_connections_a_place_and_no_more(at_once, places):
    all_have_tried = Barrier(places + 2)

    def hold():
        with locks.a_place(KEY, places=places) as is_ours:
            all_have_tried.wait()
            return is_ours

    # The second time, since the first have given theirs back.
    for _ in range(2):
        assert sorted(at_once(*[hold] * (places + 2))) == [False] * 2 + [True] * places
