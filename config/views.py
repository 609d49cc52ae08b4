"""The OpenAPI document over HTTP."""

from functools import cache
from typing import Any, cast

from django.http import HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.views import SpectacularAPIView
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from config.api import refuse_parameters

WRITERS = {writer.format: writer for writer in (OpenApiJsonRenderer, OpenApiYamlRenderer)}


class Schema(SpectacularAPIView):
    """The document that says what the API is, in JSON or YAML, the same for everybody."""

    # It does not tell of itself.
    schema = None

    def get(self, request: Request) -> HttpResponse:
        refuse_parameters(request, known={"format"})
        renderer: Any = request.accepted_renderer
        if form := request.query_params.get("format"):
            if form not in WRITERS:
                raise ValidationError({"format": [f"One of {', '.join(WRITERS)}."]})
            renderer = WRITERS[form]
        return HttpResponse(document(renderer.format), content_type=renderer.media_type)


@cache
def document(form: str) -> bytes:
    """Return the document as JSON or YAML. To make it takes a second, so a process does it once for each."""
    return cast(bytes, WRITERS[form]().render(SchemaGenerator().get_schema(public=True)))
