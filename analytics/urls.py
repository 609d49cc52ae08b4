"""Paths below /api/v1/."""

from django.urls import path

from analytics import views

urlpatterns = [
    path("analytics/sales/", views.Sales.as_view()),
    path("analytics/funnel/", views.Funnel.as_view()),
    path("analytics/products/", views.Products.as_view()),
]
