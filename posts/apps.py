"""Django's entry to the app."""

from django.apps import AppConfig


class PostsConfig(AppConfig):
    name = "posts"
