"""What the documentation says about commands, settings and files, compared with what there is."""

import re
from pathlib import Path
from textwrap import dedent

import pytest
from django.core.management import get_commands

from devstack import engines, run
from outbox.registry import DEAD_LETTERS
from tests.settings_source import CHECKOUT, UNSTATED, variables

README = CHECKOUT / "README.md"
# Read by `make run` and docker-compose.yml, and by docker-compose.yml alone.
OUTSIDE_THE_SETTINGS = {"PORT", "POSTGRES_PASSWORD"}


def documents():
    """Return the Markdown files of the project."""
    folders = [
        path for path in CHECKOUT.iterdir() if path.is_dir() and path.name[0] != "." and path.name != "staticfiles"
    ]
    return sorted([*CHECKOUT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md"))])


def section(document, heading):
    """Return the text of a document below a heading, up to the next one of its level."""
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", document.read_text(), re.MULTILINE | re.DOTALL)[1]


def table(text):
    """Return the rows of the tables in a text, as lists of cells, without the lines that head them."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [row for row in rows if row[0].startswith(("`", "["))]


def anchors(document):
    """Return the anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links():
    """Return (document, target) for each link that leads to a file, or to a heading."""
    found = [
        (document, target)
        for document in documents()
        for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text())
        if not re.match(r"\w+:", target)
    ]
    assert found
    return found


def settings_table():
    """Return the default that README states for each variable."""
    return {name.strip("`"): default for name, _, default in table(section(README, "Settings"))}


def test_the_settings_table_names_what_the_settings_read():
    assert sorted(settings_table()) == sorted(variables())


@pytest.mark.parametrize(("name", "default"), variables().items())
def test_the_settings_table_states_the_defaults(name, default):
    stated = settings_table()[name]
    match default:
        case _ if default is UNSTATED:
            assert stated.startswith("none")
        case bool():
            assert stated.split(";")[0] == ("on" if default else "off")
        case "":
            assert stated == "none"
        case list():
            assert stated == f"`{','.join(default)}`"
        case _:
            assert stated == f"`{default}`"


def test_the_example_of_an_env_file_names_what_is_read():
    text = (CHECKOUT / ".env.example").read_text()
    named = set(re.findall(r"^(?:# )?([A-Z_]+)=", text, re.MULTILINE))
    # It is what an environment file is an example of.
    assert named == variables().keys() - {"ENV_FILE"} | OUTSIDE_THE_SETTINGS


def test_the_example_of_an_env_file_sets_nothing():
    text = (CHECKOUT / ".env.example").read_text()
    assert [line for line in text.splitlines() if line and line[0] != "#" and not line.endswith("=")] == []


def test_names_only_management_commands_that_there_are():
    named = {name for document in documents() for name in re.findall(r"manage\.py (\w+)", document.read_text())}
    assert {"relay_outbox", "run_consumer"} <= named <= get_commands().keys()


def test_names_every_management_command_of_the_project():
    ours = {name for name, app in get_commands().items() if (CHECKOUT / app).is_dir()}
    assert ours <= set(re.findall(r"^\| `manage\.py (\w+)", section(README, "Commands"), re.MULTILINE))


def test_names_every_consumer_group(groups):
    [line] = [line for line in section(README, "Commands").splitlines() if "run_consumer GROUP" in line]
    assert {*groups, DEAD_LETTERS} <= set(re.findall(r"`([\w-]+)`", line))


def test_names_only_targets_that_make_knows():
    targets = set(re.findall(r"^(\w+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    commands = "\n".join(
        line
        for document in documents()
        for line in re.findall(r"`[^`\n]+`|^    .*$", document.read_text(), re.MULTILINE)
    )
    named = set(re.findall(r"\bmake (\w+)", commands))
    assert {"run", "test"} <= named <= targets


@pytest.mark.parametrize(("document", "target"), links(), ids=lambda value: getattr(value, "name", value))
def test_links_lead_somewhere(document, target):
    path, _, anchor = target.partition("#")
    file = (document.parent / path).resolve() if path else document
    assert file.exists()
    assert not anchor or anchor in anchors(file)


def test_the_table_of_folders_names_all_that_hold_code():
    named = {re.search(r"\((\w+)\)", row[0])[1] for row in table(section(README, "The house"))}
    assert named == {path.parent.name for path in CHECKOUT.glob("*/__init__.py")}


@pytest.mark.parametrize("document", documents(), ids=lambda document: document.name)
def test_python_in_the_documents_is_python(document: Path):
    for code in re.findall(r"^ *```python\n(.*?)^ *```", document.read_text(), re.MULTILINE | re.DOTALL):
        compile(dedent(code), document.name, "exec")


def test_the_first_order_is_one_block_that_a_script_can_take():
    assert len(re.findall(r"^```sh\n", section(README, "A first order"), re.MULTILINE)) == 1


def test_make_run_hands_every_setting_on_to_a_second_terminal():
    written = {*run.SETTINGS, *engines.VARIABLES, *run.DEMO_SETTINGS, *run.WITHOUT_TLS, "SECRET_KEY", "PORT"}
    assert variables().keys() - {"ENV_FILE"} <= written
