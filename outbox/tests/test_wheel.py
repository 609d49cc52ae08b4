"""The app lifted out: its wheel in a fresh environment, in a project that does what README.md says."""

import ast
import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4
from zipfile import ZipFile

import psycopg
import pytest
from django.core.management import call_command, find_commands
from django.db import connection

from outbox import conf
from outbox.kafka import admin_client

OUTBOX = Path(conf.__file__).parent
README = (OUTBOX / "README.md").read_text()

# What README.md takes for granted.
MODELS = """
from django.db import models

class {name}(models.Model):
    sku = models.TextField()
    units = models.IntegerField(default=0)
"""
SURROUNDINGS = """
INSTALLED_APPS += ["shop", "stats"]
DATABASES = {{"default": {database}}}
OUTBOX |= {{"KAFKA": {kafka}, "PREFIX": {prefix!r}}}
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def table(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its head."""
    [text] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:3] == "| `"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(OUTBOX)]
    subprocess.run(command, check=True, timeout=300)
    [wheel] = folder.iterdir()
    return wheel


class Project:
    """A project as README.md describes it, in an environment of its own that has nothing but the wheel."""

    def __init__(self, folder: Path, wheel: Path, database: dict[str, Any], prefix: str) -> None:
        self.folder, self._wheel = folder, wheel
        self._database = database
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if name not in {"DJANGO_SETTINGS_MODULE", "PYTHONPATH", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST"}
        } | {"PATH": f"{folder / 'venv' / 'bin'}:{os.environ['PATH']}"}
        venv.create(folder / "venv", with_pip=True)
        call_command("startproject", "mysite", folder)
        for app, model in (("shop", "Sale"), ("stats", "Total")):
            (folder / app).mkdir()
            (folder / app / "__init__.py").touch()
            (folder / app / "models.py").write_text(MODELS.format(name=model))
        for block in blocks("python"):
            with (folder / block.splitlines()[0].removeprefix("# ")).open("a") as file:
                file.write(block)
        settings = {"ENGINE": connection.settings_dict["ENGINE"]} | {
            name: connection.settings_dict[name] for name in ("USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
        }
        with (folder / "mysite" / "settings.py").open("a") as file:
            file.write(
                SURROUNDINGS.format(
                    database=settings | {"NAME": database["dbname"]}, kafka=conf.get("KAFKA"), prefix=prefix
                )
            )

    def run(self, script: str) -> str:
        """Run a shell script as somebody would who follows README.md, and return what it prints."""
        script = script.replace("path/to/orderbox/outbox", str(self._wheel))
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def rows(self, query: str) -> list[tuple]:
        with psycopg.connect(**self._database) as db:
            return db.execute(query).fetchall()


@pytest.fixture(scope="module")
def project(tmp_path_factory, wheel, django_db_blocker) -> Iterator[Project]:
    with django_db_blocker.unblock():
        server = {
            name: value
            for name, value in connection.get_connection_params().items()
            if name in {"host", "port", "user", "password"}
        }
    prefix = f"test-{uuid4().hex[:8]}."
    database = f"test_wheel_{uuid4().hex[:8]}"
    with psycopg.connect(**server, dbname="postgres", autocommit=True) as db:
        db.execute(f"CREATE DATABASE {database}")
        try:
            yield Project(tmp_path_factory.mktemp("project"), wheel, {**server, "dbname": database}, prefix)
        finally:
            db.execute(f"DROP DATABASE {database} WITH (FORCE)")
            client = admin_client()
            ours = [name for name in client.list_topics(timeout=10).topics if name.startswith(prefix)]
            for future in client.delete_topics(ours).values() if ours else ():
                future.result()


def test_the_wheel_has_all_of_the_app_but_its_tests(wheel):
    ours = {
        path.relative_to(OUTBOX.parent).as_posix()
        for path in OUTBOX.rglob("*")
        if path.is_file() and "tests" not in path.relative_to(OUTBOX).parts and path.suffix != ".pyc"
    } - {"outbox/pyproject.toml", "outbox/LICENSE"}
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == ours


def test_what_the_readme_says_carries_an_event_to_its_effect_and_tests_it(project):
    install, see_through, test = blocks("sh")

    project.run(install)
    where = project.run("python -c 'import outbox; print(outbox.__file__)'")
    assert where.startswith(str(project.folder / "venv"))
    project.run("python manage.py makemigrations shop stats")
    told = project.run(see_through)

    assert "1 events sent" in told
    assert project.rows("SELECT sku, units FROM stats_total") == [("A1", 2)]
    assert project.rows("SELECT count(*) FROM outbox_outboxevent") == [(0,)]
    assert project.rows("SELECT consumer_group, event_type FROM outbox_inboxevent") == [("stats", "product.sold")]
    assert "10 passed" in project.run(test)


def test_the_readme_has_every_setting_with_its_default():
    stated = {name.strip("`"): ast.literal_eval(default.strip("`")) for name, _, default in table("Settings")}
    assert stated == conf.DEFAULTS


def test_the_readme_has_every_command():
    stated = {re.match(r"`manage\.py (\w+)", command)[1] for command, _ in table("Commands")}
    assert stated == set(find_commands(str(OUTBOX / "management")))
