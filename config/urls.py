"""All paths of the site."""

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_update
from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path, re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerSplitView

from accounts.admin import change_own_password
from accounts.forms import LoginForm
from config import health
from config.views import Schema

handler400 = "config.problems.bad_request"
admin.site.login_form = LoginForm
# Its scripts are files, but some of its style stands in the page.
docs = csp_update({"style-src": [SELF, UNSAFE_INLINE]})(SpectacularSwaggerSplitView.as_view())


@csrf_exempt
def no_such_path(request: HttpRequest) -> HttpResponse:
    raise Http404


api = [
    path("", include("accounts.urls")),
    path("", include("stock.urls")),
    path("", include("orders.urls")),
    path("", include("payments.urls")),
    path("", include("coupons.urls")),
    path("", include("notifications.urls")),
    path("", include("posts.urls")),
    path("", include("analytics.urls")),
]

urlpatterns = [
    path("", RedirectView.as_view(url="/api/docs/")),
    path("api/v1/", include(api)),
    path("api/schema/", Schema.as_view(), name="schema"),
    path("api/docs/", docs, name="docs"),
    # So that Django does not answer a POST that lacks the last slash with a redirect, which makes it a GET.
    re_path("^api/", no_such_path),
    path("admin/password_change/", admin.site.admin_view(change_own_password, cacheable=True)),
    path("admin/", admin.site.urls),
    path("healthz", health.healthz),
    path("readyz", health.readyz),
]
