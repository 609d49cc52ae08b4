"""The settings of Orderbox, with the benchmarks' own events and handlers."""

from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS as ORDERBOX_APPS

INSTALLED_APPS = [*ORDERBOX_APPS, "benchmarks"]
