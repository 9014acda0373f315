"""The worker on a machine whose wall clock jumps by days, with short waits for a platform that fails."""

import itertools
import sys
import time

from serverless import runpod_worker
from serverless.queue import held_posts, job_take

DAYS = itertools.cycle((0, 400 * 86_400, -400 * 86_400))

job_take.FAILED_SECONDS = (0.1, 0.2)
job_take.EMPTY_SECONDS = (0.1, 0.2)
job_take.TOO_MANY_REQUESTS_SECONDS = 0.2
held_posts.WAIT_SECONDS = (0.05, 0.2)
held_posts.MAX_RETRY_AFTER_SECONDS = 0.5
held_posts.ANSWER_SECONDS = 2.0
held_posts.DRAINING_SECONDS = 5.0

if __name__ == "__main__":
    real_time = time.time
    time.time = lambda: real_time() + next(DAYS)
    sys.exit(runpod_worker.main())
