"""A notification has a channel, and its text is written when it is sent or read, of what its context names."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

KINDS = [
    ("WELCOME", "Welcome"),
    ("POST_PUBLISHED", "Post Published"),
    ("NEW_POST", "New Post"),
    ("ORDER_COMPLETED", "Order Completed"),
    ("ORDER_CANCELLED", "Order Cancelled"),
    ("PAYMENT_SUCCEEDED", "Payment Succeeded"),
    ("PAYMENT_REFUNDED", "Payment Refunded"),
]
CHANNELS = [("EMAIL", "E-mail"), ("TELEGRAM", "Telegram"), ("IN_APP", "In the app")]
STATUSES = [("PENDING", "Pending"), ("SENT", "Sent"), ("FAILED", "Failed")]

# What the texts of before named, in English and in Korean; for a reason, all words that were ever told for it. Where a
# text is another, a person changed it: then it names what comes nearest. One statement, since all wait for it.
READ_TEXTS = """
    UPDATE notifications_notification SET sent_at = created_at, context = CASE kind
        WHEN 'WELCOME' THEN jsonb_build_object('username', coalesce(
            substring(title FROM '^Welcome, (.*)$'), substring(title FROM '^(.*)님, 환영합니다$'), title
        ))
        WHEN 'ORDER_COMPLETED' THEN jsonb_build_object(
            'total', coalesce(substring(body FROM '[0-9]+[.][0-9]{2}'), body),
            'currency', coalesce(substring(body FROM '[0-9] ([A-Z]{3})'), '')
        )
        WHEN 'PAYMENT_REFUNDED' THEN jsonb_build_object(
            'amount', coalesce(substring(body FROM '[0-9]+[.][0-9]{2}'), body),
            'currency', coalesce(substring(body FROM '[0-9] ([A-Z]{3})'), '')
        )
        ELSE jsonb_build_object('reason', CASE
            WHEN body IN ('There was not enough in stock.', '재고가 부족했습니다.') THEN 'OUT_OF_STOCK'
            WHEN body IN ('There was not enough money in your wallet.', '지갑의 잔액이 부족했습니다.')
                THEN 'PAYMENT_FAILED'
            WHEN body IN ('It could not be finished in time.', '제시간에 처리하지 못했습니다.') THEN 'TIMEOUT'
            -- "As you wished." and "It was cancelled on request."
            ELSE 'CUSTOMER'
        END)
    END
"""


class Migration(migrations.Migration):
    dependencies = [
        ("notifications", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField("notification", "context", models.JSONField(default=dict)),
        # What there is, is read in the app.
        migrations.AddField(
            "notification", "channel", models.CharField(choices=CHANNELS, default="IN_APP", max_length=10)
        ),
        migrations.AddField(
            "notification", "status", models.CharField(choices=STATUSES, default="SENT", max_length=10)
        ),
        migrations.AddField("notification", "sent_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("notification", "due_at", models.DateTimeField(blank=True, null=True)),
        migrations.AddField("notification", "attempts", models.PositiveIntegerField(default=0)),
        migrations.AddField("notification", "error", models.TextField(blank=True)),
        # Backwards only while there are none: the texts are gone.
        migrations.RunSQL(READ_TEXTS, migrations.RunSQL.noop, elidable=True),
        migrations.RemoveField("notification", "title"),
        migrations.RemoveField("notification", "body"),
        migrations.AlterField("notification", "channel", models.CharField(choices=CHANNELS, max_length=10)),
        migrations.AlterField("notification", "status", models.CharField(choices=STATUSES, max_length=10)),
        migrations.AlterField("notification", "kind", models.CharField(choices=KINDS, max_length=20)),
        migrations.AlterField(
            "notification",
            "user",
            models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="notifications",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AlterModelOptions(
            "notification",
            {"ordering": ["-id"], "permissions": [("resend_notification", "Can send failed notifications again")]},
        ),
        migrations.RemoveConstraint("notification", "notification_once"),
        migrations.RemoveIndex("notification", "notification_in_list"),
        migrations.RemoveIndex("notification", "notification_unread"),
        migrations.AddIndex(
            "notification",
            models.Index(
                fields=["user", "-place"], condition=models.Q(("channel", "IN_APP")), name="notification_in_list"
            ),
        ),
        migrations.AddIndex(
            "notification",
            models.Index(
                fields=["user"],
                condition=models.Q(("channel", "IN_APP"), ("read_at", None)),
                name="notification_unread",
            ),
        ),
        migrations.AddIndex(
            "notification",
            models.Index(
                fields=["channel", "attempts", "due_at"],
                condition=models.Q(("status", "PENDING")),
                name="notification_due",
            ),
        ),
        migrations.AddIndex(
            "notification",
            models.Index(fields=["channel"], condition=models.Q(("status", "FAILED")), name="notification_failed"),
        ),
        migrations.AddConstraint(
            "notification",
            models.UniqueConstraint(
                fields=("event_id", "user", "channel"), name="notification_once", nulls_distinct=False
            ),
        ),
        migrations.AddConstraint(
            "notification",
            models.CheckConstraint(
                condition=models.Q(("due_at__isnull", False), ("sent_at__isnull", True), ("status", "PENDING"))
                | models.Q(("due_at__isnull", True), ("sent_at__isnull", False), ("status", "SENT"))
                | models.Q(("due_at__isnull", True), ("sent_at__isnull", True), ("status", "FAILED")),
                name="notification_times_fit_status",
            ),
        ),
        migrations.AddConstraint(
            "notification",
            models.CheckConstraint(
                condition=models.Q(("channel", "IN_APP"), ("status", "SENT"), ("user__isnull", False))
                | models.Q(("channel", "EMAIL"), ("read_at__isnull", True), ("user__isnull", False))
                | models.Q(("channel", "TELEGRAM"), ("read_at__isnull", True)),
                name="notification_fits_channel",
            ),
        ),
        migrations.CreateModel(
            name="OptOut",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(choices=KINDS, max_length=20)),
                ("channel", models.CharField(choices=CHANNELS, max_length=10)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="opt_outs",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["user", "kind", "channel"],
                "constraints": [models.UniqueConstraint(fields=("user", "kind", "channel"), name="opt_out_once")],
            },
        ),
        migrations.CreateModel(
            name="Outage",
            fields=[
                (
                    "channel",
                    models.CharField(choices=CHANNELS, max_length=10, primary_key=True, serialize=False),
                ),
                ("since", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("failures", models.PositiveIntegerField(default=1)),
                ("paused_until", models.DateTimeField()),
                ("error", models.TextField()),
            ],
            options={"permissions": [("end_outage", "Can let channels be tried at once")]},
        ),
    ]
