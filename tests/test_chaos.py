"""The fault proof in its short form: `make bench ARGS=chaos`, with engines of its own that may be stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import CHECKOUT, NOT_THE_STACKS

KILLS = 25
# It waits for a slow machine, but not for ever.
LIMIT_SECONDS = 600


def test_each_event_is_applied_once_and_in_order_whoever_is_killed_and_whatever_stops(tmp_path: Path):
    code = run_chaos(tmp_path)

    output = (tmp_path / "output").read_text()
    assert code == 0, output
    aims = {aim["text"]: aim for aim in json.loads((tmp_path / "results.json").read_text())["aims"]}
    assert all(aim["holds"] for aim in aims.values()), output
    assert aims["processes killed"]["value"] == KILLS
    assert aims["events that each victim had sent or applied, the fewest"]["value"] > 0
    for since in ("the first kill", "kafka was back", "postgres was back"):
        assert aims[f"events applied under fire since {since}"]["value"] > 0


def run_chaos(folder: Path) -> int:
    """Run it as a process, and return its exit code. What it prints and finds is in the folder then."""
    command = ["benchmarks", "chaos", "--seconds", str(KILLS), "--output", str(folder)]
    with (folder / "output").open("w") as output:
        benchmark = subprocess.Popen(
            [sys.executable, "-m", "devstack", "exec", "--stop-with-parent", "--", sys.executable, "-m", *command],
            cwd=CHECKOUT,
            env={name: value for name, value in os.environ.items() if name not in NOT_THE_STACKS},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            return benchmark.wait(LIMIT_SECONDS)
        finally:
            # If it still runs: the test is stopped, or its time is over.
            benchmark.terminate()
            benchmark.wait()
