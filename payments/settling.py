"""The settler: asks the providers that call out, with no transaction open. Celery runs it each second.

What is to be asked are rows, so nothing is lost with Redis, Celery or this process: a payment that somebody took and
never answered for is due again when its lease is over, and asked for by the same key. Any number of settlers may run.
"""

import logging
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic

from django.db import InterfaceError, OperationalError

from payments import providers, services
from payments.models import Payment
from payments.providers import Declined

# Calls to providers that one settler has under way at the same time.
CALLS_AT_ONCE = 32
# A settler takes payments for so long, then waits for its last calls: Celery has other work too.
TAKE_SECONDS = 5.0
# A call that takes longer than this has no answer. Longer than providers.CALL_SECONDS, within which a provider is to
# say itself what is wrong; well below services.LEASE_SECONDS.
GIVE_UP_SECONDS = 15.0
# While calls are under way, what has become due meanwhile is looked for this often.
LOOK_SECONDS = 0.5
# The key of the advisory lock of who settles alone ("sett" in ASCII).
LOCK = 0x73657474

# A payment, and what its provider raised.
Answers = SimpleQueue[tuple[Payment, Exception | None]]

logger = logging.getLogger(__name__)


def settle_due() -> int:
    """Ask providers about payments that are due until none is left, or TAKE_SECONDS are over. Blocks for the calls.

    Returns how often a provider was asked.
    """
    asked = 0
    # When each call has taken too long.
    calls: dict[Payment, float] = {}
    answers: Answers = SimpleQueue()
    end = monotonic() + TAKE_SECONDS
    while True:
        free = CALLS_AT_ONCE - len(calls) if monotonic() < end else 0
        for payment in services.take_due(limit=free) if free else []:
            # Of no pool, and a daemon: a call that never ends takes no other's place, and lets the process end.
            Thread(target=_ask, args=(payment, answers), name="provider", daemon=True).start()
            calls[payment] = monotonic() + GIVE_UP_SECONDS
            asked += 1
        if not calls:
            return asked
        for payment, error in _wait(answers):
            if calls.pop(payment, None):
                _record(payment, error)
        for payment in [payment for payment, limit in calls.items() if limit < monotonic()]:
            del calls[payment]
            _record(payment, TimeoutError(f"no answer within {GIVE_UP_SECONDS:.0f} s"))


def _ask(payment: Payment, answers: Answers) -> None:
    """Ask a payment's provider, and tell how that ended."""
    try:
        provider = providers.load(payment.provider)
        assert isinstance(provider, providers.RemoteProvider)
        if payment.status == Payment.Status.REFUNDING:
            provider.refund(payment)
        else:
            provider.capture(payment)
    except Exception as error:
        answers.put((payment, error))
    else:
        answers.put((payment, None))


def _wait(answers: Answers) -> list[tuple[Payment, Exception | None]]:
    """Return the answers that there are; if there is none yet, wait for one, for up to LOOK_SECONDS."""
    try:
        found = [answers.get(timeout=LOOK_SECONDS)]
    except Empty:
        return []
    while not answers.empty():
        found.append(answers.get())
    return found


def _record(payment: Payment, error: Exception | None) -> None:
    """Write down how the question about a payment ended: with its answer, or without one.

    An answer that cannot be written down is asked for again later, and keeps no other payment waiting.
    """
    refunding = payment.status == Payment.Status.REFUNDING
    declined = error.reason if isinstance(error, Declined) and not refunding else None
    told = {"order_id": str(payment.order_id), "attempts": payment.attempts}
    if error is None or declined is not None:
        try:
            if refunding:
                services.record_refund(order_id=payment.order_id)
            else:
                services.record_capture(order_id=payment.order_id, declined=declined)
            return
        except (OperationalError, InterfaceError):
            # PostgreSQL is away: nothing at all can be written down.
            raise
        except Exception as trouble:
            logger.exception("a payment provider's answer could not be recorded; it is asked again", extra=told)
            error = trouble
    else:
        logger.warning("a payment provider gave no answer; it is asked again", extra={**told, "error": repr(error)})
    services.put_off(order_id=payment.order_id, attempts=payment.attempts, error=repr(error))
