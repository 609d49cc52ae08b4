"""Paths below /api/v1/."""

from django.urls import path

from accounts import views

urlpatterns = [
    path("users/", views.Users.as_view()),
    path("users/me/", views.Me.as_view()),
    path("users/me/password/", views.Password.as_view()),
    path("auth/token/", views.Token.as_view()),
    path("auth/tokens/", views.Tokens.as_view()),
]
