"""The files in docs/ that are made of the code: as the code has it, and nothing that readers rely on is broken."""

from io import StringIO

from django.core.management import call_command

from tests.settings_source import CHECKOUT


def test_the_event_map_is_that_of_the_code():
    out = StringIO()
    call_command("event_map", stdout=out)

    assert (CHECKOUT / "docs/events.md").read_text() == out.getvalue(), (
        "stale: run manage.py event_map > docs/events.md"
    )


def test_the_agreed_asyncapi_document_is_that_of_the_code():
    call_command("export_asyncapi", "--check", str(CHECKOUT / "docs/asyncapi.json"), stdout=StringIO())
