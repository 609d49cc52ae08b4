"""Paths below /api/v1/."""

from django.urls import path

from orders import views

urlpatterns = [
    path("orders/", views.Orders.as_view()),
    path("orders/<uuid:pk>/", views.OneOrder.as_view(), name="order"),
    path("orders/<uuid:pk>/timeline/", views.Timeline.as_view()),
    path("orders/<uuid:pk>/cancel/", views.Cancel.as_view()),
]
