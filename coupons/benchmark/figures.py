"""What one run has found, and what must not be."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from coupons.models import Request

Status = Request.Status


@dataclass(frozen=True)
class Moment:
    """How many had an answer of the web's, and how many their final one, so long after the load began."""

    at_seconds: float
    answered: int
    final: int


@dataclass(frozen=True)
class Figures:
    """One queue's."""

    queue: str
    users: int
    quantity: int
    # Of those whose request was accepted, and of those who were refused at once.
    accept_ms: Mapping[str, float]
    refuse_ms: Mapping[str, float]
    # From the first request until each user has the final answer.
    final_seconds: float
    processor_ms_per_request: float
    # How many requests were decided together, each time.
    batch_sizes: Sequence[int]
    # Of the requests that were accepted, by status; of those that were refused at once, by code.
    outcomes: Mapping[str, int]
    refused: Mapping[str, int]
    # Answers that are neither: nothing, or an error.
    failed: int
    # Requests that were accepted, and have no final answer.
    lost: int
    oversold: int
    # Coupons that are left although somebody was told that there are none.
    unsold: int
    violations: int
    progress: Sequence[Moment]

    @property
    def requests_per_second(self) -> float:
        return self.users / self.final_seconds

    @property
    def faults(self) -> dict[str, int]:
        """What must be 0."""
        return {
            "oversold": self.oversold,
            "left, though somebody got none": self.unsold,
            "order violations": self.violations,
            "SYSTEM_ERROR": self.outcomes.get(Status.SYSTEM_ERROR, 0),
            "lost requests": self.lost,
            "failed requests": self.failed,
        }

    @property
    def is_sound(self) -> bool:
        return not any(self.faults.values())


def percentiles(values: Collection[float]) -> dict[str, float]:
    """Return p50, p90, p99 and the maximum, each a value that occurs; of nothing, zeros."""
    ranked = sorted(values) or [0.0]
    return {f"p{percent}" if percent < 100 else "max": _nearest(ranked, percent) for percent in (50, 90, 99, 100)}


def _nearest(ranked: Sequence[float], percent: int) -> float:
    return ranked[max(math.ceil(len(ranked) * percent / 100), 1) - 1]


def oversold(owners: Collection[UUID], quantity: int) -> int:
    """Return how many coupons too many are issued, to whomever, and how many to users who have one already."""
    return max(len(owners) - quantity, 0) + len(owners) - len(set(owners))


def unsold(owners: Collection[UUID], quantity: int, told_that_there_are_none: int) -> int:
    """Return how many coupons are left although somebody was told that there are none."""
    return max(quantity - len(owners), 0) if told_that_there_are_none else 0


def violations(order: Sequence[UUID], statuses: Mapping[UUID, str]) -> int:
    """Return how many requests succeeded after one had found nothing left, or were decided without being in the queue.

    `order` is the queue's, `statuses` are those of all requests that are decided.
    """
    in_order = [statuses[request_id] for request_id in order if request_id in statuses]
    try:
        first_miss = in_order.index(Status.OUT_OF_STOCK)
    except ValueError:
        first_miss = len(in_order)
    return Counter(in_order[first_miss:])[Status.SUCCESS] + len(statuses.keys() - set(order))
