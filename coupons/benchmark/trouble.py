"""Why the benchmark ends before its time."""


class Trouble(Exception):
    """It cannot go on: what is missing, in words."""


class Stopped(Exception):
    """Somebody asked it to stop."""
