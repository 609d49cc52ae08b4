"""Every metric of this app. Served by each worker on --health-port, at /metrics.

Names and units follow Prometheus' conventions: base units, `_total` on counters.
"""

from prometheus_client import Counter, Gauge, Histogram

RELAY_PUBLISHED = Counter("outbox_relay_published", "Records that Kafka has acknowledged", ["topic"])
RELAY_REFUSED = Counter("outbox_relay_refused", "Records that Kafka refused for good", ["topic"])
RELAY_FAILURES = Counter("outbox_relay_failures", "Deliveries that failed and are repeated", ["topic", "error"])
RELAY_RESTARTS = Counter("outbox_relay_restarts", "Producers that were replaced after an error")
RELAY_IN_FLIGHT = Gauge(
    "outbox_relay_in_flight_records", "Records handed to Kafka and not yet reported on", multiprocess_mode="livesum"
)
RELAY_BUCKETS = Gauge("outbox_relay_buckets", "Key buckets that this relay holds", multiprocess_mode="livesum")

# outcome: applied, repeated (the inbox knew it), skipped (no handler), parked, failed (now a dead letter)
CONSUMER_RECORDS = Counter("outbox_consumer_records", "Records by what became of them", ["group", "outcome"])
CONSUMER_RETRIES = Counter("outbox_consumer_retries", "Tries of an event after its handler raised", ["group"])
CONSUMER_BATCH_SECONDS = Histogram("outbox_consumer_batch_seconds", "Time to apply a batch of records", ["group"])
CONSUMER_BATCH_RECORDS = Histogram(
    "outbox_consumer_batch_records", "Records in a batch", ["group"], buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
)
LETTER_RETRIES = Counter("outbox_letter_retries", "Retries of dead letters", ["group", "outcome"])
