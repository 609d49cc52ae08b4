"""Paths below /api/v1/."""

from django.urls import path

from notifications import views

urlpatterns = [
    path("notifications/", views.Notifications.as_view()),
    path("notifications/<uuid:pk>/read/", views.Read.as_view()),
    path("notifications/read-all/", views.ReadAll.as_view()),
]
