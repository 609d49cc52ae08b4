"""Over Django's own formats of English."""

# To the second: all that happens to an order happens within a minute. With the time zone, which is nobody's own.
DATETIME_FORMAT = "Y-m-d H:i:s T"
