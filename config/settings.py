"""All settings. Every variable that the environment may set is in the table of README.md.

The environment comes first; then, unless ENV_FILE names another file, what a running `make run` wrote to
.devstack/env; then .env.
"""

from pathlib import Path

import environ
import structlog
from csp import constants as csp

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
for env_file in (
    [env.path("ENV_FILE")()] if "ENV_FILE" in env.ENVIRON else [BASE_DIR / ".devstack/env", BASE_DIR / ".env"]
):
    if Path(env_file).is_file():
        env.read_env(env_file)


def pairs(name: str) -> dict[str, str]:
    """Read `name=value,name=value` from the environment variable `name`.

    Raises:
        ImproperlyConfigured: a part has no `=`.
    """
    found = {}
    for part in env.list(name, default=[]):
        key, separator, value = part.partition("=")
        if not separator:
            raise environ.ImproperlyConfigured(f"{name}: {part!r} is not name=value")
        found[key.strip()] = value.strip()
    return found


# ── Django ────────────────────────────────────────────────────────────────────────────────────────────────────────
DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="only-for-debug") if DEBUG else env.str("SECRET_KEY")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost"])
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
# Of the web's metrics, see gunicorn.conf.py; 0: they are not served.
METRICS_PORT = env.int("METRICS_PORT", default=0)
AUTH_USER_MODEL = "accounts.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True
LANGUAGE_CODE = "en"
FORMAT_MODULE_PATH = "config.formats"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "config",
    "rest_framework",
    "knox",
    "pgtrigger",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "outbox",
    "accounts",
    "orders",
    "stock",
    "payments",
    "coupons",
    "notifications",
    "posts",
    "analytics",
]

MIDDLEWARE = [
    "config.metrics.MetricsMiddleware",
    "outbox.middleware.TraceMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "stock.middleware.ProductPageMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_permissions_policy.PermissionsPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.problems.ProblemMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}

# ── Engines ───────────────────────────────────────────────────────────────────────────────────────────────────────
DATABASE_URL = env.str("DATABASE_URL", default="postgresql://orderbox@127.0.0.1:5432/orderbox")
database = env.db_url_config(DATABASE_URL)
DATABASES = {
    "default": {
        **database,
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            # A host that is gone without a word is noticed within seconds, not after the kernel's 15 minutes.
            "connect_timeout": 3,
            "tcp_user_timeout": 5_000,
            "keepalives_idle": 10,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            **database.get("OPTIONS", {}),
        },
    }
}
REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:6379/0")
# Installations that share a Kafka may share a Redis too.
REDIS_PREFIX = env.str("KAFKA_PREFIX", default="")
# Redis answers within a millisecond. What takes longer than this is taken for away: config/redis.py.
REDIS_TIMEOUT_SECONDS = 0.2

# ── Outbox (outbox/conf.py says what each key means) ──────────────────────────────────────────────────────────────
OUTBOX = {
    "KAFKA": {
        "bootstrap.servers": env.str("KAFKA_BOOTSTRAP_SERVERS", default="127.0.0.1:9092"),
        **pairs("KAFKA_SECURITY"),
    },
    "PRODUCER": pairs("KAFKA_PRODUCER"),
    "CONSUMER": pairs("KAFKA_CONSUMER"),
    "PREFIX": env.str("KAFKA_PREFIX", default=""),
    "REPLICATION_FACTOR": env.int("KAFKA_REPLICATION_FACTOR", default=1),
    "RETRY_SECONDS": env.int("FAILED_MESSAGE_RETRY_SECONDS", default=30),
    "RETRY_LIMIT": env.int("FAILED_MESSAGE_RETRY_LIMIT", default=3),
    "FOREIGN_DEAD_LETTER_TOPICS": pairs("FOREIGN_DEAD_LETTER_TOPICS"),
    "ALARM_SECONDS": env.int("OUTBOX_ALARM_SECONDS", default=60),
    "ASYNCAPI_INFO": {
        "title": "Orderbox",
        "version": "1.0.0",
        "description": "What happens to orders, stock and payments. Events of one key are in order.",
    },
}

# ── Celery ────────────────────────────────────────────────────────────────────────────────────────────────────────
CELERY_BROKER_URL = REDIS_URL
# Installations that share a Redis do not take each other's tasks.
CELERY_TASK_DEFAULT_QUEUE = f"{OUTBOX['PREFIX']}celery"
CELERY_TASK_IGNORE_RESULT = True
# A process that is busy keeps no task waiting that another one could do.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE = {
    "cancel-overdue-orders": {
        "task": "orders.tasks.cancel_overdue",
        "schedule": 5.0,
        # A sweep that nobody took within its period is replaced by the next one.
        "options": {"expires": 5.0},
    },
    "settle-payments": {"task": "payments.tasks.settle_due", "schedule": 1.0, "options": {"expires": 1.0}},
    **{
        f"send-{channel}": {
            "task": "notifications.tasks.send_due",
            "schedule": 1.0,
            "args": [channel],
            "options": {"expires": 1.0},
        }
        for channel in ("EMAIL", "TELEGRAM")
    },
    "apply-retention": {"task": "config.apply_retention", "schedule": 3600.0, "options": {"expires": 3600.0}},
}

# ── API ───────────────────────────────────────────────────────────────────────────────────────────────────────────
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
# Proxies in front, of which each adds the address that it sees to X-Forwarded-For; 0: that header is not believed.
NUM_PROXIES = env.int("NUM_PROXIES", default=0)
# 0: no limit.
THROTTLE_USER_PER_MINUTE = env.int("THROTTLE_USER_PER_MINUTE", default=6000)
THROTTLE_ADDRESS_PER_MINUTE = env.int("THROTTLE_ADDRESS_PER_MINUTE", default=6000)
FAILED_LOGINS_PER_NAME = env.int("FAILED_LOGINS_PER_NAME", default=10)
FAILED_LOGINS_PER_ADDRESS = env.int("FAILED_LOGINS_PER_ADDRESS", default=100)
FAILED_LOGIN_WINDOW_SECONDS = env.int("FAILED_LOGIN_WINDOW_SECONDS", default=300)
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.api.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "config.api.Negotiation",
    "DEFAULT_PAGINATION_CLASS": "config.api.NewestFirst",
    "DEFAULT_THROTTLE_CLASSES": ["config.throttles.Throttle"],
    "DEFAULT_SCHEMA_CLASS": "config.schema.AutoSchema",
    "EXCEPTION_HANDLER": "config.problems.exception_handler",
    "NUM_PROXIES": NUM_PROXIES,
    # All there is, is JSON.
    "URL_FORMAT_OVERRIDE": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
REST_KNOX = {"AUTH_HEADER_PREFIX": "Token", "TOKEN_LIMIT_PER_USER": None}
SPECTACULAR_SETTINGS = {
    "TITLE": "Orderbox",
    "DESCRIPTION": "Orders, stock and payments that stay true together.",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "OrderStatus": "orders.models.Order.Status",
        "CouponStatus": "coupons.models.Coupon.Status",
        "CouponRequestStatus": "coupons.models.Request.Status",
        "EntryKind": "payments.models.Entry.Kind",
        "NotificationKind": "notifications.kinds.Kind",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# ── Shop ──────────────────────────────────────────────────────────────────────────────────────────────────────────
CURRENCY = env.str("CURRENCY", default="USD")
# Product pages are kept in Redis: stock/pages.py.
PRODUCT_CACHE = env.bool("PRODUCT_CACHE", default=True)
# Where new requests for coupons go: kafka or redis. What waits in the other one is answered too.
COUPON_QUEUE = env.str("COUPON_QUEUE", default="kafka")
PAYMENT_PROVIDER = env.str("PAYMENT_PROVIDER", default="payments.providers.WalletProvider")
# Set by `make run`: the demo's users, whose passwords are public, may be added.
DEMO = env.bool("DEMO", default=False)
WALLET_SELF_DEPOSIT = env.bool("WALLET_SELF_DEPOSIT", default=False)
ORDER_STOCK_TIMEOUT_SECONDS = env.int("ORDER_STOCK_TIMEOUT_SECONDS", default=300)
ORDER_PAYMENT_TIMEOUT_SECONDS = env.int("ORDER_PAYMENT_TIMEOUT_SECONDS", default=900)
ORDER_CANCEL_WINDOW_HOURS = env.int("ORDER_CANCEL_WINDOW_HOURS", default=24)

# ── Notifications ─────────────────────────────────────────────────────────────────────────────────────────────────
# Not set: e-mails go to the log.
EMAIL_IS_SET = bool(env.str("EMAIL_URL", default=""))
EMAIL_IS_READABLE = True
if EMAIL_IS_SET:
    try:
        # EMAIL_BACKEND, EMAIL_HOST and so on.
        globals().update(env.email_url("EMAIL_URL"))
    except (environ.ImproperlyConfigured, ValueError):
        # notifications/checks.py says so, and not what it is: there is a password in it.
        EMAIL_IS_READABLE = False
# Of each answer of the mail server. RFC 5321 wants patience after a message, or it is sent again though it was taken.
EMAIL_TIMEOUT = 60
EMAIL_FROM = env.str("EMAIL_FROM", default="Orderbox <orderbox@localhost>")
# Empty: messages go to the log.
TELEGRAM_BOT_TOKEN = env.str("TELEGRAM_BOT_TOKEN", default="")
# The operators' chat.
TELEGRAM_CHAT_ID = env.str("TELEGRAM_CHAT_ID", default="")
TELEGRAM_API_URL = env.str("TELEGRAM_API_URL", default="https://api.telegram.org").rstrip("/")
NOTIFICATION_RETENTION_DAYS = env.int("NOTIFICATION_RETENTION_DAYS", default=90)

# ── Browsers ──────────────────────────────────────────────────────────────────────────────────────────────────────
# That users come by TLS alone. Django does not speak it: a proxy does, and says so in HTTPS_PROXY_HEADER.
HTTPS = env.bool("HTTPS", default=not (DEBUG or DEMO))
# Only of a proxy that sets this header itself, whatever the client sent.
HTTPS_PROXY_HEADER = env.str("HTTPS_PROXY_HEADER", default="")
HSTS_SECONDS = env.int("HSTS_SECONDS", default=31536000)
if HTTPS_PROXY_HEADER:
    SECURE_PROXY_SSL_HEADER = (f"HTTP_{HTTPS_PROXY_HEADER.upper().replace('-', '_')}", "https")
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = HSTS_SECONDS if HTTPS else 0
# Who asks for health comes by no proxy.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
# HSTS for subdomains, and the browsers' own lists: other hosts of the domain are not ours to speak for.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
if DEMO:
    # HSTS, redirect and secure cookies: `make run` serves on loopback alone, where there is no TLS.
    SILENCED_SYSTEM_CHECKS += [f"security.{number}" for number in ("W004", "W008", "W012", "W016")]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [csp.SELF],
        "img-src": [csp.SELF, "data:"],
        "object-src": [csp.NONE],
        "base-uri": [csp.NONE],
        "form-action": [csp.SELF],
        "frame-ancestors": [csp.NONE],
    },
}
PERMISSIONS_POLICY: dict[str, list[str]] = {
    feature: []
    for feature in (
        "accelerometer",
        "camera",
        "display-capture",
        "geolocation",
        "gyroscope",
        "magnetometer",
        "microphone",
        "midi",
        "payment",
        "usb",
    )
}

# ── Logs ──────────────────────────────────────────────────────────────────────────────────────────────────────────
# What a record of the logging module has becomes fields, those of `extra=` too.
log_fields = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso"),
]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"context": {"()": "outbox.logs.ContextFilter"}},
    "formatters": {
        "line": {
            "()": structlog.stdlib.ProcessorFormatter,
            # The plain traceback, since the rich one shows local variables: passwords, tokens.
            "processor": structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
            "foreign_pre_chain": log_fields,
        },
        "json": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.EventRenamer("message"),
                structlog.processors.JSONRenderer(default=str),
            ],
            "foreign_pre_chain": [*log_fields, structlog.stdlib.add_logger_name],
        },
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "filters": ["context"],
            "formatter": env.str("LOG_FORMAT", default="line", choices=("line", "json")),
        },
    },
    # Which task came and went is of interest to none but who looks for it.
    "loggers": {
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        # They log addresses, and Telegram's have the bot's token in them.
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
    },
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
}
