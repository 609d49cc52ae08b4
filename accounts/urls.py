"""Paths below /api/v1/."""

from django.urls import path, re_path

from accounts import views

# Any that a user may have, and more, so that those too are answered as ones that there are not. PostgreSQL's text
# holds no NUL.
USERNAME = r"(?P<username>[^/\x00]{1,150})"

urlpatterns = [
    path("users/", views.Users.as_view()),
    path("users/me/", views.Me.as_view()),
    path("users/me/password/", views.Password.as_view()),
    re_path(rf"^users/{USERNAME}/follow/$", views.Follow.as_view()),
    path("auth/token/", views.Token.as_view()),
    path("auth/tokens/", views.Tokens.as_view()),
]
