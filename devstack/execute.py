"""python -m devstack exec CMD…: run a command against engines that exist for its time only."""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from devstack import engines
from devstack.output import Output
from devstack.runner import Runner
from devstack.state import State
from devstack.stopping import StopRequests


async def execute(command: Sequence[str], *, durable: bool, with_parent: bool) -> int:
    """Return the command's exit code, or 128 + N when signal N stopped it or us."""
    folder = Path(tempfile.mkdtemp(prefix="orderbox-"))
    try:
        with StopRequests(with_parent=with_parent) as requests:
            try:
                return await _execute(command, State(folder, durable=durable), requests)
            except asyncio.CancelledError:
                if requests.received is None:
                    raise
                return 128 + requests.received
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _execute(command: Sequence[str], state: State, requests: StopRequests) -> int:
    embedded = engines.embedded(state, os.environ)
    remove = [state.folder, *(folder for engine in embedded for folder in engine.leftovers)]
    async with Runner(Output(state.logs, quiet=True), state.pids, remove=remove) as runner:
        requests.hurry = runner.hurry
        await engines.probe(os.environ)
        urls = await engines.start(runner, embedded)
        environment = {
            **os.environ,
            **urls,
            "SECRET_KEY": secrets.token_urlsafe(40),
            # The settings read no file: neither that of a running stack nor .env.
            "ENV_FILE": os.devnull,
            # Where tests find the engines' pids and logs.
            "DEVSTACK_STATE": str(state.folder),
        }
        return await runner.run_in_foreground(command, environment, requests.to_forward)
