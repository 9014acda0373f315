"""The HTTP server as a process that may have 200 descriptors: python -m tests.helpers.few_descriptors."""

from __future__ import annotations

import resource
import sys

from serverless.http_server import main

DESCRIPTORS = 200

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    sys.exit(main())
