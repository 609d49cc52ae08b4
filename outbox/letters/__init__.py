"""What could not be applied: kept, retried, edited, discarded. manage.py run_consumer dead-letters."""
