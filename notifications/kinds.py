"""What there is to tell people, and where."""

from django.db import models


class Kind(models.TextChoices):
    WELCOME = "WELCOME"
    POST_PUBLISHED = "POST_PUBLISHED"  # to its author
    NEW_POST = "NEW_POST"  # to who follows the author
    ORDER_COMPLETED = "ORDER_COMPLETED"
    ORDER_CANCELLED = "ORDER_CANCELLED"
    PAYMENT_SUCCEEDED = "PAYMENT_SUCCEEDED"  # to the customer, and to the operators
    PAYMENT_REFUNDED = "PAYMENT_REFUNDED"
    COUPON_ISSUED = "COUPON_ISSUED"
    COUPON_REJECTED = "COUPON_REJECTED"


class Channel(models.TextChoices):
    EMAIL = "EMAIL", "E-mail"
    TELEGRAM = "TELEGRAM", "Telegram"
    IN_APP = "IN_APP", "In the app"
