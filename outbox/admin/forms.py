"""What an act on dead letters needs to be told."""

from typing import Any

from django import forms

from outbox.admin import acts
from outbox.letters.dead_letters import storable

REASON_LIMIT = 1_000


class DiscardForm(forms.Form):
    reason = forms.CharField(
        max_length=REASON_LIMIT,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text="Goes into the letter and the log.",
    )


class PatchForm(forms.Form):
    changes = forms.CharField(
        widget=forms.Textarea(attrs={"class": "outbox-editor", "rows": 8, "spellcheck": "false"}),
        help_text='A JSON merge patch (RFC 7396) for the values: {"data": {"number": 5}}. null removes a field.',
    )

    def clean_changes(self) -> dict[str, Any]:
        try:
            return acts.read_patch(self.cleaned_data["changes"])
        except ValueError as error:
            raise forms.ValidationError(storable(str(error))) from error
