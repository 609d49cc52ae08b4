"""The WSGI application. Run with: gunicorn config.wsgi"""

import os
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")


class Request(WSGIRequest):
    """Is UTF-8, whatever charset the client names.

    Django decodes the query string by that charset while it makes the request, before any middleware, and with some
    (`hex`, `undefined`) fails there. What names another one is refused by ProblemMiddleware.
    """

    @property
    def encoding(self) -> None:
        return None

    @encoding.setter
    def encoding(self, charset: str) -> None:
        pass

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        """Read the header Content-Type. One that cannot be read is taken for none, and so for no type of a body.

        Python's e-mail package, by which Django reads it, fails on some parameters in the form of RFC 2231.
        """
        # The stubs do not know it.
        read = super()._set_content_type_params  # type: ignore[misc]
        try:
            read(meta)
        except (ValueError, TypeError):
            meta["CONTENT_TYPE"] = ""
            read(meta)


application = get_wsgi_application()
application.request_class = Request
