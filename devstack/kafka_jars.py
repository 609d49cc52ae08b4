"""The jars of Apache Kafka, as kafka.lock.toml names them with version and SHA-256, fetched from Maven Central.

Run with: python -m devstack fetch-kafka. The lock is written anew, for another version, with
python -m devstack lock-kafka VERSION; only that looks into POMs.
"""

import fcntl
import hashlib
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
import tomli_w
from jgo.maven import MavenContext
from rich.console import Console
from rich.progress import track

from devstack import StackError

LOCK = Path(__file__).with_name("kafka.lock.toml")
# In the virtual environment, which is what `make clean` deletes.
FOLDER = Path(sys.prefix) / "share" / "kafka"
_ROOT = ("org.apache.kafka", "kafka_2.13")
# Kafka's POM leaves the choice of a logger to who runs it: without a binding SLF4J logs nothing.
_BINDING = ("org.apache.logging.log4j", "log4j-slf4j-impl")
_TRIES = 3
_THREADS = 8


@dataclass(frozen=True)
class Jar:
    """One jar of the lock."""

    group: str
    artifact: str
    version: str
    sha256: str

    def path(self, folder: Path) -> Path:
        return folder / f"{self.artifact}-{self.version}.jar"


def read_lock(path: Path = LOCK) -> list[Jar]:
    """Return the jars that the lock names."""
    return [Jar(**entry) for entry in tomllib.loads(path.read_text())["jar"]]


def class_path(folder: Path = FOLDER) -> str:
    """Return Java's class path: the jars of the lock and nothing else."""
    return ":".join(str(jar.path(folder)) for jar in read_lock())


def are_complete(jars: Sequence[Jar], folder: Path = FOLDER) -> bool:
    """Tell whether every jar is there with the right checksum (0.05 s)."""
    return not _missing(jars, folder)


def fetch(jars: Sequence[Jar], folder: Path = FOLDER) -> None:
    """Fetch the jars that are not there yet, and verify them; blocks while another process does so.

    Raises StackError when the network fails or a checksum does not match; what was fetched until then is kept.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if missing := _missing(jars, folder):
                with _download_folder(folder) as downloads:
                    _fetch_all(missing, downloads, folder)
    except OSError as error:
        raise StackError(f"Apache Kafka cannot be fetched: {error}") from error


def install(jar: Jar, downloaded: Path, folder: Path) -> None:
    """Move a download into the folder, in one step, if its checksum is the lock's; else raise StackError."""
    found = _sha256(downloaded)
    if found != jar.sha256:
        raise StackError(
            f"{downloaded.name}: its SHA-256 is {found}, but {LOCK.name} says {jar.sha256}; it is not used"
        )
    downloaded.replace(jar.path(folder))


def write_lock(version: str) -> None:
    """Resolve this version of Kafka with its runtime dependencies, and write the lock."""
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder), timeout=60)
        inputs, transitive = context.resolver.resolve([context.create_dependency(":".join((*_ROOT, version)))])
        log4j = next(dependency.version for dependency in transitive if dependency.artifactId == "log4j-core")
        # Apart from Kafka, since jgo takes each input's POM for a bill of materials of all; what it needs is there.
        binding = context.create_dependency(":".join((*_BINDING, log4j)))
        jars = [
            {
                "group": d.groupId,
                "artifact": d.artifactId,
                "version": d.version,
                "sha256": _sha256(d.artifact.resolve()),
            }
            for d in (*inputs, *transitive, binding)
        ]
    jars.sort(key=lambda jar: (jar["group"], jar["artifact"]))
    heading = "# Written by: python -m devstack lock-kafka VERSION\n\n"
    LOCK.write_text(heading + tomli_w.dumps({"kafka": version, "jar": jars}))


def _missing(jars: Sequence[Jar], folder: Path) -> list[Jar]:
    return [jar for jar in jars if not jar.path(folder).exists() or _sha256(jar.path(folder)) != jar.sha256]


@contextmanager
def _download_folder(folder: Path) -> Iterator[Path]:
    """A folder on the same file system, so that a finished jar can be moved in one step."""
    for interrupted in folder.glob("download-*"):
        shutil.rmtree(interrupted, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as name:
        yield Path(name)


def _fetch_all(jars: Sequence[Jar], downloads: Path, folder: Path) -> None:
    with ThreadPoolExecutor(_THREADS) as threads:
        fetching = [threads.submit(_fetch_one, jar, downloads, folder) for jar in jars]
        try:
            for done in _shown(fetching):
                done.result()
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def _shown(fetching: Sequence[Future[None]]) -> Iterator[Future[None]]:
    """Yield the futures as they finish: with a progress bar on a terminal, between two lines elsewhere."""
    title = f"Fetching Apache Kafka ({len(fetching)} jars)"
    console = Console(stderr=True)
    if console.is_terminal:
        yield from track(as_completed(fetching), description=title, total=len(fetching), console=console)
        return
    print(f"{title} …", file=sys.stderr)
    yield from as_completed(fetching)
    print("Apache Kafka is fetched.", file=sys.stderr)


def _fetch_one(jar: Jar, downloads: Path, folder: Path) -> None:
    for attempt in range(1, _TRIES + 1):
        # jgo writes in place and takes a half file for a whole one: each attempt has a folder of its own.
        context = MavenContext(repo_cache=downloads / f"{jar.artifact}-{attempt}", timeout=30)
        try:
            downloaded = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
        except (requests.RequestException, RuntimeError) as error:
            if attempt == _TRIES:
                raise StackError(f"{jar.path(folder).name} cannot be fetched: {error}") from error
        else:
            install(jar, downloaded, folder)
            return


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
