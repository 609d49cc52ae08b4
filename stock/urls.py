"""Paths below /api/v1/."""

from django.urls import path, re_path

from stock import views

# Any that a product may have, and more, so that those too are answered as ones that there are not. PostgreSQL's text
# holds no NUL.
SKU = r"(?P<sku>[^/\x00]{1,64})"

urlpatterns = [
    path("products/", views.Products.as_view()),
    re_path(rf"^products/{SKU}/$", views.OneProduct.as_view()),
    re_path(rf"^products/{SKU}/receipts/$", views.Receipts.as_view()),
]
