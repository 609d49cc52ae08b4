"""The WSGI application. Run with: gunicorn config.wsgi"""

import os

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


application = get_wsgi_application()
application.request_class = Request
