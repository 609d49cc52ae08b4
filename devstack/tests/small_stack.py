"""A stack of three small processes, for the tests of the runner. Run as: python -m devstack.tests.small_stack STATE"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from devstack.output import Output
from devstack.runner import Runner, Service
from devstack.state import State
from devstack.stopping import StopRequests

_LIVE = """
import signal, subprocess, sys, time
def stop(*_):
    print("stopped", time.monotonic(), flush=True)
    raise SystemExit
signal.signal(signal.SIGTERM, stop)
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
print("started", flush=True)
time.sleep(1000)
"""
_STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("started", flush=True)
time.sleep(1000)
"""


async def main(folder: Path) -> None:
    """Keep a worker and an engine, each with a child in a session of its own, and a process that ignores SIGTERM."""
    state = State(folder, durable=True)
    lock = state.lock()
    lock.tell("http://127.0.0.1:1")
    state.write_env({"NAME": "value"})
    with StopRequests() as requests:
        try:
            async with Runner(
                Output(state.logs), state.pids, held=[lock.descriptor], remove=[state.env_file]
            ) as runner:
                requests.hurry = runner.hurry
                runner.keep(Service("worker", [sys.executable, "-c", _LIVE], os.environ))
                runner.keep(Service("engine", [sys.executable, "-c", _LIVE], os.environ, is_engine=True))
                if "--stubborn" in sys.argv:
                    runner.keep(Service("stubborn", [sys.executable, "-c", _STUBBORN], os.environ, signal.SIGTERM))
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
