"""What users write for everybody to read, and for their followers to be told of."""
