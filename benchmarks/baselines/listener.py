"""A bare LISTEN loop: wait, read, produce, flush, delete. Run with: python -m benchmarks.baselines.listener"""

import os

import psycopg

from benchmarks.baselines.relay import BATCH_SIZE, READ, connect_to_kafka, send


def main() -> None:
    """Send what comes into the outbox until killed."""
    producer = connect_to_kafka()
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as db:
        db.execute("LISTEN outbox")
        cursor = db.cursor(binary=True)
        while True:
            while rows := cursor.execute(READ, ([], 0, BATCH_SIZE)).fetchall():
                batch = send(producer, rows)
                producer.flush()
                db.execute("DELETE FROM outbox_outboxevent WHERE id = ANY(%s)", (batch.ids,))
            for _ in db.notifies(timeout=1, stop_after=1):
                pass


if __name__ == "__main__":
    main()
