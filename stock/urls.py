"""Paths below /api/v1/."""

from django.urls import path, re_path

from stock import views

# A SKU made in the admin may hold anything but a slash; PostgreSQL's text holds no NUL.
SKU = r"(?P<sku>[^/\x00]{1,64})"

urlpatterns = [
    path("products/", views.Products.as_view()),
    re_path(rf"^products/{SKU}/$", views.OneProduct.as_view()),
    re_path(rf"^products/{SKU}/receipts/$", views.Receipts.as_view()),
]
