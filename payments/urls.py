"""Paths below /api/v1/."""

from django.urls import path

from payments import views

urlpatterns = [
    path("wallet/", views.MyWallet.as_view()),
    path("wallet/entries/", views.Entries.as_view()),
    path("wallet/deposits/", views.Deposits.as_view()),
]
