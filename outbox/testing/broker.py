"""A broker in memory, for run_to_rest: which group gets which records next."""

from collections import deque
from collections.abc import Collection
from random import Random
from typing import NamedTuple

from outbox.record import Record
from outbox.registry import handlers_of

# Records of a batch at most, where chance makes the batches.
BATCH_SIZE = 5


class Batch(NamedTuple):
    """What a group gets at once. `again`: it had these records before."""

    group: str
    records: list[Record]
    again: bool = False


class Broker:
    """Holds for each group what it did not get yet: of each key in each topic in order.

    Without `chance` all goes out in the order in which it came in, one by one. With it the order is chance's but for
    that of a key in a topic, and with the probability `repeat` it is a batch once more that some group had before.
    """

    def __init__(self, groups: Collection[str], chance: Random | None, *, repeat: float) -> None:
        self._groups, self._chance, self._repeat = groups, chance, repeat
        # By group, topic and key. The number says in which order records came in.
        self._queues: dict[tuple[str, str, bytes | None], deque[tuple[int, Record]]] = {}
        self._count = 0
        self._had: list[Batch] = []

    def put(self, event_type: str, record: Record) -> None:
        """Take in a record for the groups that handle its type."""
        for group in self._groups:
            if event_type in handlers_of(group):
                queue = self._queues.setdefault((group, record.topic, record.key), deque())
                queue.append((self._count, record))
                self._count += 1

    def next(self) -> Batch | None:
        """Return what is to be delivered now; None if nothing is left."""
        chance = self._chance
        if chance and self._had and chance.random() < self._repeat:
            return chance.choice(self._had)._replace(again=True)
        waiting = [place for place, queue in self._queues.items() if queue]
        if not waiting:
            return None
        if chance is None:
            group, *_ = first = min(waiting, key=lambda place: self._queues[place][0])
            return Batch(group, [self._pop(first)])
        group = chance.choice(sorted({group for group, *_ in waiting}))
        batch = Batch(group, [])
        for _ in range(chance.randint(1, BATCH_SIZE)):
            if queues := [place for place in waiting if place[0] == group and self._queues[place]]:
                batch.records.append(self._pop(chance.choice(queues)))
        self._had.append(batch)
        return batch

    def _pop(self, place: tuple[str, str, bytes | None]) -> Record:
        _, record = self._queues[place].popleft()
        return record
