"""The admin's pages of this app. Dead letters can be acted on, groups resumed; everything else is to look at.

Each act needs its permission and is in Django's log, in the transaction of the act.
"""

from outbox.admin import events, failed_messages, groups

__all__ = ["events", "failed_messages", "groups"]
