"""From Kafka to the handlers, once and in order: manage.py run_consumer GROUP, and replay_events."""
