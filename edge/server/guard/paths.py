"""Paths for which the guard has special rules."""

STATIC_PATH = "/static/"  # the page's files: no API key
PUBLIC_PATHS = ("/", "/health", "/ready")  # no API key: the page, which prompts for it, and health checks
SAME_ORIGIN_PATHS = ("/chat",)  # for the server's own page only, whatever origins are allowed elsewhere
