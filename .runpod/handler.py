"""RunPod's Hub looks for a handler file in this folder; the worker is serverless.runpod_worker."""

import sys

from serverless.runpod_worker import main

if __name__ == "__main__":
    sys.exit(main())
