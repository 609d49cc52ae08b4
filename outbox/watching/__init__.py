"""What a person or a machine sees of the workers: health, metrics, lag."""
