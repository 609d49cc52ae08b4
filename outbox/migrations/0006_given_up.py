"""When those who wait for the event of a failed message were told that it is given up."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("outbox", "0005_finding_of_events")]

    operations = [
        migrations.AddField(
            model_name="failedmessage",
            name="given_up_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
