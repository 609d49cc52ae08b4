"""A pytest plugin for projects that use this app: what a test published, and deliveries of every kind, without Kafka.

It comes with the installed app; beside a copy of it, write `pytest_plugins = ["outbox.testing"]` into conftest.py.
It needs pytest-django. Django's apps are not loaded yet when pytest imports this file.
"""

from typing import TYPE_CHECKING

import pytest

from outbox.testing.crashing import STEPS

if TYPE_CHECKING:
    from outbox.testing.delivering import Outbox

__all__ = ["STEPS", "outbox"]


@pytest.fixture
def outbox(db: None) -> "Outbox":
    """The events that this test publishes, and means to deliver them, twice, late, and with crashes."""
    from outbox.testing.delivering import Outbox

    return Outbox()
