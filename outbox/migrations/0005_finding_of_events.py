"""Indexes by which a person finds an event in a backlog, and the failed messages of a key whatever became of them."""

import django.contrib.postgres.indexes
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("outbox", "0004_inbox_by_week")]

    operations = [
        migrations.AddIndex(
            model_name="outboxevent",
            index=django.contrib.postgres.indexes.BrinIndex(
                autosummarize=True, fields=["event_id"], name="outbox_event_id"
            ),
        ),
        migrations.AddIndex(
            model_name="failedmessage",
            index=models.Index(models.Func("key", function="sha256"), name="failed_message_key"),
        ),
    ]
