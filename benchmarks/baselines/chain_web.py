"""The web whose orders start chains of Celery tasks. Run with: gunicorn benchmarks.baselines.chain_web"""

from benchmarks.baselines.chain import lead_instead_of_publish
from config.wsgi import application

lead_instead_of_publish()

__all__ = ["application"]
