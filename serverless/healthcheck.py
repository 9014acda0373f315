"""What the image's HEALTHCHECK runs: python -m serverless.healthcheck. The exit status is 0 for healthy, 1 for not."""

from __future__ import annotations

import http.client
import sys

from higgs_core.errors import SettingsError
from serverless.config.settings import Settings

_TIMEOUT = 4.0  # seconds; the image's HEALTHCHECK allows 5


def main() -> int:
    """Ask /ready of the HTTP server in this container; anything but 200 is unhealthy, also that the model still loads.

    A queue worker has no port to ask, and ends when it cannot work: it is healthy while it runs.
    """
    try:
        settings = Settings.from_environment()
    except SettingsError:
        return 1
    if settings.mode == "queue":
        return 0
    connection = http.client.HTTPConnection(settings.host, settings.health_port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/ready")
        return int(connection.getresponse().status != http.HTTPStatus.OK)
    except (OSError, http.client.HTTPException):
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
