"""Paths below /api/v1/."""

from django.urls import path, re_path

from coupons import views

# In upper or lower case.
CODE = "(?P<code>[A-Za-z0-9_-]{1,64})"

urlpatterns = [
    path("coupons/", views.Coupons.as_view()),
    re_path(rf"^coupons/{CODE}/$", views.OneCoupon.as_view()),
    re_path(rf"^coupons/{CODE}/issue/$", views.Issue.as_view()),
    path("coupon-requests/<uuid:pk>/", views.OneRequest.as_view(), name="coupon-request"),
    path("my-coupons/", views.MyCoupons.as_view()),
]
