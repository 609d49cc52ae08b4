"""The settings of Orderbox, with the baselines' views beside its own, so that one web serves both."""

from config.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.baselines.bare"
