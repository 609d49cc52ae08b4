"""From the outbox to Kafka: manage.py relay_outbox."""
