"""docker-compose.yml and Dockerfile, as far as they can be checked without an engine that runs containers."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest
import yaml
from django.core.management import get_commands, load_command_class

from config import celery_app
from outbox.registry import DEAD_LETTERS
from tests.settings_source import CHECKOUT, variables

COMPOSE_FILE = CHECKOUT / "docker-compose.yml"
SERVICES = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
# Read by libpq itself.
NOT_OURS_TO_READ = {"PGPASSWORD"}


def image_command():
    """Return the CMD of the Dockerfile."""
    [command] = re.findall(r"^CMD (\[.*?\])$", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE | re.DOTALL)
    return json.loads(command.replace("\\\n", ""))


def commands(service):
    """Return the commands that a service runs, one after another, each as a list of words."""
    command = service.get("command") or image_command()
    if command[:2] == ["sh", "-c"]:
        return [shlex.split(part) for part in command[2].split("&&")]
    return [command]


def management_commands():
    """Return (service, name of the command, its arguments) for each management command that is run."""
    return [
        (name, words[2], words[3:])
        for name, service in OURS.items()
        for words in commands(service)
        if words[:2] == ["python", "manage.py"]
    ]


def test_fits_the_schema_of_compose():
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    result = subprocess.run([*checker, str(COMPOSE_FILE)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("service", "name", "arguments"), management_commands())
def test_runs_management_commands_that_there_are(service, name, arguments):
    assert name in get_commands()
    # Exits with 2 where it does not know an argument.
    load_command_class(get_commands()[name], name).create_parser("manage.py", name).parse_args(arguments)


def test_every_other_command_is_one_that_starts_the_project():
    for name, service in OURS.items():
        for words in commands(service):
            match words:
                case ["python", "manage.py", *_]:
                    pass
                case ["celery", "-A", app, "worker" | "beat", *_]:
                    assert import_module(app).celery_app is celery_app
                case ["gunicorn", app, *_]:
                    assert callable(import_module(app).application)
                case _:
                    pytest.fail(f"{name} runs {words}")


def test_each_consumer_group_has_one_service(groups):
    consumed = [arguments[0] for _, name, arguments in management_commands() if name == "run_consumer"]
    assert sorted(consumed) == sorted([*groups, DEAD_LETTERS])


def test_migrations_and_topics_come_before_all_else():
    assert [words[2] for words in commands(OURS["migrate"])] == ["migrate", "create_topics"]
    assert SERVICES["migrate"]["restart"] == "no"
    for name in OURS.keys() - {"migrate"}:
        assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully", name


def test_passes_only_variables_that_the_settings_read():
    for name, service in OURS.items():
        assert service["environment"].keys() - NOT_OURS_TO_READ <= variables().keys(), name


def test_passes_all_that_the_settings_read_but_what_it_says_itself_and_what_is_of_other_places():
    passed = set.intersection(*(set(service["environment"]) for service in OURS.values()))
    # Where Kafka and its copies are, and the demo, are others' to say.
    elsewhere = {"DEBUG", "DEMO", "ENV_FILE", "KAFKA_REPLICATION_FACTOR", "KAFKA_SECURITY"}
    assert variables().keys() - passed == elsewhere


def test_all_of_our_services_have_the_same_environment():
    environments = [service["environment"] for service in OURS.values()]
    assert all(environment == environments[0] for environment in environments)


def test_waits_for_services_that_there_are_and_that_can_tell_their_health():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES, name
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], name


def test_starts_again_what_dies():
    assert {name for name, service in SERVICES.items() if service["restart"] != "unless-stopped"} == {"migrate"}


def test_pins_images_to_a_version():
    images = {name: service["image"] for name, service in SERVICES.items() if name not in OURS}
    for image in images.values():
        assert re.fullmatch(r"[a-z/]+:\d[\w.-]*", image)
    lock = tomllib.loads((CHECKOUT / "devstack/kafka.lock.toml").read_text())
    assert images["kafka"] == f"apache/kafka:{lock['kafka']}"


def test_keeps_the_engines_data_in_declared_volumes():
    declared = yaml.safe_load(COMPOSE_FILE.read_text())["volumes"].keys()
    mounted = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", [])]
    assert {source for source, _ in mounted} == declared
    # The path of the image's volume: another one would be lost with the container.
    assert dict(mounted)["postgres"] == "/var/lib/postgresql"


def test_no_secret_has_a_default():
    text = COMPOSE_FILE.read_text()
    interpolated = re.findall(r"\$\{(\w+)([^}]*)\}", text)
    assert {"SECRET_KEY", "POSTGRES_PASSWORD"} <= {name for name, _ in interpolated}
    for name, rest in interpolated:
        if re.search("SECRET|PASSWORD|TOKEN", name):
            assert rest.startswith(":?"), name
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("SECRET|PASSWORD|TOKEN", name):
                # Without a value it is passed on, if there is one.
                assert value is None or value.startswith("${"), name
    assert not re.search(r"://[^/@\s]*:[^/@\s]+@", text), "a URL has a password in it"


def test_publishes_nothing_but_the_web_and_that_on_loopback():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"web"}
    assert all(port.startswith("127.0.0.1:") for port in published["web"])


def test_the_image_is_small_and_its_processes_are_not_root():
    lines = (CHECKOUT / "Dockerfile").read_text().splitlines()
    [user] = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert int(user) > 0
    assert [line for line in lines if "pip install" in line] == ["RUN pip install --requirement requirements.txt"]


def test_no_secret_of_a_checkout_gets_into_the_image():
    assert ".*" in (CHECKOUT / ".dockerignore").read_text().splitlines()
    assert not re.search(r"^(ENV|ARG).*(SECRET|PASSWORD)", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)
