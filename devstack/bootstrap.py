"""Makes .venv what the requirements files say. Run by make, with the system's Python and its standard library alone.

A second call finds a stamp and returns at once; an interrupted one is taken up by the next; two at once wait in line.
It keeps to what Python 3.7 can read, so that an old one can say what is missing.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
VENV = CHECKOUT / ".venv"
PYTHON = str(VENV / "bin" / "python")
STAMP = VENV / "orderbox-stamp"
# The second one includes the first.
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")
OLDEST = (3, 11)


def main() -> int:
    """Return 0 when .venv is ready; otherwise another code, after a line on standard error."""
    if sys.version_info < OLDEST:
        return use_newer_python()
    os.chdir(str(CHECKOUT))
    # The checkout's own folder is the lock: there is nothing to create, and nothing to clean up.
    lock = os.open(str(CHECKOUT), os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    place, content = wanted()
    if STAMP.exists() and STAMP.read_text() == f"{place}\n{content}\n":
        return 0
    return create(place) or install(place) or write_stamp(f"{place}\n{content}\n")


def use_newer_python() -> int:
    """Hand over to the first newer Python on the path."""
    for minor in range(OLDEST[1], 20):
        newer = shutil.which(f"python3.{minor}")
        if newer:
            os.execv(newer, [newer, *sys.argv])
    return fail(f"Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}")


def wanted() -> "tuple[str, str]":
    """Return the stamp's two lines: where the environment is and for which Python, and what is installed there."""
    digest = hashlib.sha256()
    for name in REQUIREMENTS:
        digest.update((CHECKOUT / name).read_bytes())
    return f"{VENV} {sys.version.split()[0]}", digest.hexdigest()


def create(place: str) -> int:
    """Create the environment, unless a sound one for this place and this Python is there."""
    if STAMP.exists() and STAMP.read_text().startswith(f"{place}\n") and runs(PYTHON, "-m", "pip", "--version"):
        return 0
    if not runs(sys.executable, "-c", "import venv, ensurepip"):
        return fail("Python's venv module is missing (on Debian: apt install python3-venv)")
    print("Setting up .venv (about a minute the first time) …", flush=True)
    if subprocess.call([sys.executable, "-m", "venv", "--clear", str(VENV)]) != 0:
        return fail(f"{VENV} cannot be created")
    return 0


def install(place: str) -> int:
    """Let pip install what the files pin; its errors speak for themselves."""
    # A sound environment, with anything in it: an interrupted pip goes on from here.
    write_stamp(f"{place}\n")
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")
    home = environment.get("HOME")
    if not home or not os.access(home, os.W_OK):
        environment["PIP_NO_CACHE_DIR"] = "1"
    return subprocess.call([PYTHON, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS[-1]], env=environment)


def write_stamp(text: str) -> int:
    """Write the stamp in one step, and return 0."""
    new = STAMP.with_suffix(".new")
    new.write_text(text)
    new.replace(STAMP)
    return 0


def runs(*command: str) -> bool:
    """Tell whether a command succeeds."""
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def fail(line: str) -> int:
    """Say why, and return 1."""
    print(f"make: {line}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
