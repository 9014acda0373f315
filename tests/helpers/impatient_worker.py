"""The worker with progress from its first moment on, so that a job need not last for seconds to report any."""

import sys

from serverless import runpod_worker
from serverless.queue import progress

progress.FIRST_AFTER_SECONDS = 0.0
progress.EVERY_SECONDS = 0.0
progress.LEAST_SECONDS_LEFT = 1e-6
progress.ARRIVAL_SECONDS = 0.05

if __name__ == "__main__":
    sys.exit(runpod_worker.main())
