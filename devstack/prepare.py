"""Makes database, static files, topics and demo data ready, in one process for speed.

Run by `python -m devstack run` as: python -m devstack.prepare GROUPS, where it writes what `run_consumer` is to be run
with into the JSON file GROUPS. The one module here that imports Django.
"""

import json
import os
import sys
import time
from pathlib import Path

import django
from django.core.management import call_command

from devstack import kafka


def main(groups_file: Path) -> None:
    """Bring everything up to date; what is there already is left alone."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    call_command("migrate", interactive=False, verbosity=1)
    summary = call_command("collectstatic", interactive=False, post_process=False)
    if not summary.strip().startswith("0 "):
        # Compressing takes seconds, and compresses all of them again.
        call_command("collectstatic", interactive=False)
    call_command("seed_demo")
    # Last, and waited for, since of the engines Kafka takes longest. If it does not come, the runner ends this process.
    while not kafka.answers(os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ.get("KAFKA_SECURITY", "")):
        time.sleep(0.1)
    call_command("create_topics")

    # Not before the apps are loaded: their consumers fill it.
    from outbox import registry

    groups_file.write_text(json.dumps([*registry.groups(), registry.DEAD_LETTERS]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
