"""docs/new-group.md, done as it says: a group is added, and nothing else changes."""

import filecmp
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, Stack
from tests.shop import Shop

PAGE = (CHECKOUT / "docs/new-group.md").read_text()
SCRIPTS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = {
    code.splitlines()[0].removeprefix("# "): code
    for code in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project to which the page's files were added."""
    copy = tmp_path / "orderbox"
    shutil.copytree(CHECKOUT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "results", "staticfiles"))
    for name, code in FILES.items():
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text(code)
    return copy


def differences(copy: filecmp.dircmp) -> set[str]:
    """Return the paths of what is not the same in a folder and its copy."""
    found = {*copy.diff_files, *copy.left_only, *copy.right_only}
    return found | {f"{name}/{path}" for name, folder in copy.subdirs.items() for path in differences(folder)}


def test_a_group_is_added_as_the_page_says_and_no_other_app_changes(shop: Shop, stack: Stack, checkout: Path):
    install, test, run = SCRIPTS

    def do(script: str) -> str:
        script = script.replace(".venv/bin/python", sys.executable)
        # What make does, with the engines that run.
        script = re.sub(r"^make test ARGS=", f"{sys.executable} -m pytest -q -p no:cacheprovider ", script)
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=checkout,
            env={**stack.environment, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    customer = shop.customer(money="100.00")
    assert customer.final(customer.place(A001=2))["status"] == "COMPLETED"
    do(install)
    assert "5 passed" in do(test)
    told = do(run)

    assert re.search(r"^loyalty: \w+, 0 members, 0 records", told, re.MULTILINE)
    assert re.search(r"^[1-9]\d* orders have points$", told, re.MULTILINE)
    compared = filecmp.dircmp(CHECKOUT, checkout, ignore=[*filecmp.DEFAULT_IGNORES, "results", "staticfiles"])
    changed = {path for path in differences(compared) if not path.startswith(".")}
    assert changed == {"loyalty", "config/settings.py"}
