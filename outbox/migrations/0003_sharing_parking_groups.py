"""Keys shared by several relays, events parked behind a dead letter, and what holds for a whole group."""

from importlib import import_module

import django.db.models.functions.comparison
import django.db.models.functions.math
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("outbox", "0002_notify_relay"),
    ]

    operations = [
        # publish() gives the NOTIFY itself, not more often than the settings say.
        migrations.RunSQL(
            "DROP TRIGGER outbox_notify ON outbox_outboxevent; DROP FUNCTION outbox_notify();",
            import_module("outbox.migrations.0002_notify_relay").CREATE,
        ),
        migrations.RunSQL("CREATE SEQUENCE outbox_notified", "DROP SEQUENCE outbox_notified"),
        migrations.CreateModel(
            name="ConsumerGroup",
            fields=[
                ("name", models.TextField(primary_key=True, serialize=False)),
                ("failures_in_a_row", models.PositiveIntegerField(db_default=0)),
                ("halted_at", models.DateTimeField(blank=True, null=True)),
                ("generation", models.BigIntegerField(db_default=0)),
            ],
        ),
        migrations.CreateModel(
            name="ParkedEvent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("consumer_group", models.TextField()),
                ("topic", models.TextField()),
                ("partition", models.IntegerField()),
                ("offset", models.BigIntegerField()),
                ("key", models.BinaryField()),
                ("value", models.BinaryField()),
                ("headers", models.JSONField(default=list)),
                ("event_id", models.UUIDField()),
                ("event_type", models.TextField()),
                ("parked_at", models.DateTimeField()),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Rewind",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("consumer_group", models.TextField()),
                ("topic", models.TextField()),
                ("partition", models.IntegerField()),
                ("offset", models.BigIntegerField()),
                ("requested_at", models.DateTimeField()),
            ],
        ),
        migrations.AlterModelOptions(
            name="failedmessage",
            options={
                "ordering": ["-id"],
                "permissions": [
                    ("retry_failedmessage", "Can retry and edit failed messages"),
                    ("discard_failedmessage", "Can discard failed messages"),
                ],
            },
        ),
        migrations.RemoveIndex(
            model_name="failedmessage",
            name="failed_message_open",
        ),
        migrations.AddField(
            model_name="failedmessage",
            name="fingerprint",
            field=models.TextField(blank=True, db_default=""),
        ),
        migrations.AddField(
            model_name="failedmessage",
            name="parks",
            field=models.BooleanField(db_default=False),
        ),
        migrations.AddField(
            model_name="failedmessage",
            name="reason",
            field=models.TextField(blank=True, db_default=""),
        ),
        migrations.AddField(
            model_name="outboxevent",
            name="bucket",
            field=models.GeneratedField(
                db_persist=True,
                expression=django.db.models.functions.math.Mod(
                    django.db.models.functions.comparison.Coalesce(
                        models.Func(
                            models.Func("key", function="sha256"),
                            0,
                            function="get_byte",
                            output_field=models.IntegerField(),
                        ),
                        0,
                    ),
                    32,
                ),
                output_field=models.SmallIntegerField(),
            ),
        ),
        migrations.AddIndex(
            model_name="failedmessage",
            index=models.Index(
                models.F("consumer_group"),
                models.Func("key", function="sha256"),
                condition=models.Q(("parks", True), ("status__in", ["PENDING", "FAILED"])),
                name="failed_message_parks",
            ),
        ),
        migrations.AddIndex(
            model_name="failedmessage",
            index=models.Index(fields=["fingerprint", "status"], name="failed_message_alike"),
        ),
        migrations.AddIndex(
            model_name="parkedevent",
            index=models.Index(
                models.F("consumer_group"),
                models.Func("key", function="sha256"),
                models.F("id"),
                name="parked_event_behind",
            ),
        ),
        migrations.AddIndex(
            model_name="parkedevent",
            index=models.Index(fields=["event_id"], name="parked_event_event"),
        ),
        migrations.AddConstraint(
            model_name="parkedevent",
            constraint=models.UniqueConstraint(
                fields=("consumer_group", "topic", "partition", "offset"), name="parked_event_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="rewind",
            constraint=models.UniqueConstraint(
                fields=("consumer_group", "topic", "partition"), name="rewind_of_a_partition_once"
            ),
        ),
    ]
