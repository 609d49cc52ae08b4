"""How it stands, in words: for consumer_lag and for the admin's page."""

from outbox.watching.gauges import COUNT_LIMIT, Standing
from outbox.watching.lag import PartitionLag

# Of a partition, as `cells` fills them.
COLUMNS = ["topic", "partition", "committed", "end", "records", "seconds", "owner"]


def cells(part: PartitionLag) -> list[str]:
    """Return how far a group is behind in a partition, by COLUMNS."""
    return [
        part.topic,
        str(part.partition),
        "-" if part.committed is None else str(part.committed),
        str(part.end),
        f"{part.records}" + (f" (+{part.expired} deleted unread)" if part.expired else ""),
        seconds_told(part.seconds),
        f"{part.owner.client_id}{part.owner.host}" if part.owner else "-",
    ]


def seconds_told(seconds: float | None) -> str:
    """Return a lag in seconds; ? where Kafka did not show it in time."""
    return "?" if seconds is None else f"{seconds:.1f}"


def unpublished_told(standing: Standing) -> str:
    """Return how many events wait to be sent."""
    return f"{standing.unpublished:,}" + (" or more" if standing.unpublished == COUNT_LIMIT else "")
