"""Paths below /api/v1/."""

from django.urls import path

from posts import views

urlpatterns = [
    path("posts/", views.Posts.as_view()),
    path("posts/<uuid:pk>/", views.OnePost.as_view()),
]
