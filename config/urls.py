"""All paths of the site."""

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path, re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from config import health


@csrf_exempt
def no_such_path(request: HttpRequest) -> HttpResponse:
    raise Http404


api = [
    path("", include("accounts.urls")),
    path("", include("stock.urls")),
    path("", include("orders.urls")),
    path("", include("payments.urls")),
    path("", include("notifications.urls")),
]

urlpatterns = [
    path("", RedirectView.as_view(url="/api/docs/")),
    path("api/v1/", include(api)),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(), name="docs"),
    # So that Django does not answer a POST that lacks the last slash with a redirect, which makes it a GET.
    re_path("^api/", no_such_path),
    path("admin/", admin.site.urls),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
]
