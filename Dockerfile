# One image for every process of Orderbox. The command decides which: the web by default, see docker-compose.yml.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /app

# A layer of its own, built again only when the requirements change.
COPY requirements.txt ./
RUN pip install --requirement requirements.txt

# Owned by root, so that the processes cannot write to their own code.
COPY . .
# The settings ask for a secret, but what is collected does not depend on it, and it does not stay in the image.
RUN SECRET_KEY=only-for-this-step python manage.py collectstatic --no-input

RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent orderbox
USER 10001

EXPOSE 8000
# The heartbeat of the workers lies in memory: on a slow disk it would look like a hanging worker.
CMD ["gunicorn", "config.wsgi", "--bind", "0.0.0.0:8000", "--worker-class", "gthread", "--workers", "2", \
     "--threads", "8", "--worker-tmp-dir", "/dev/shm", "--no-control-socket", "--graceful-timeout", "10"]
