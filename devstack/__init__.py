"""The engines and processes that Orderbox needs, brought up on one machine without Docker, Java or root.

Run with: python -m devstack run, and python -m devstack exec CMD…. No Django app imports this package, and it imports
none, but in prepare.py.
"""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


class StackError(Exception):
    """Trouble that a person can act on; its text is the one line that they see."""
