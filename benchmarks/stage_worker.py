"""The process that runs stages. Started by `benchmarks.supervisor`, which tells it on standard input what to run.

Each line there is a command: {"name", "function", "seconds"}. The answers are lines of JSON on a pipe of their own:
{"row": ...} for each row as it is made, {"phase": "building" or "built"} around the making of the engine, and
{"end": ...} at the end. When standard input ends, the process that started this one is gone, and so this one ends too.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import logging
import os
import queue
import resource
import signal
import sys
import threading
import traceback
from typing import Any

from benchmarks.stage_context import Settings, StageContext

_WORDS_OF_MEMORY = ("out of memory", "memory are free")
"""In errors of the engine that follow from too little memory."""


class _ErrorsInThreads(logging.Handler):
    """What the engine's and the codec's threads log when they fail: the reason behind a request's error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.errors.append(record.exc_info[1])


_in_threads = _ErrorsInThreads()


def main() -> None:
    settings, pipe = Settings(**json.loads(sys.argv[1])), int(sys.argv[2])
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)  # the supervisor asks where a stage hangs
    logging.basicConfig(handlers=[logging.StreamHandler(), _in_threads], level=logging.WARNING)
    commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(commands,), name="commands", daemon=True).start()
    answers = os.fdopen(pipe, "w", buffering=1)  # each line leaves at once
    lock = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        with lock:
            answers.write(json.dumps(message, default=float) + "\n")

    context = StageContext(settings, send)
    while True:
        command = commands.get()
        send({"end": _run(command, context)})


def _listen(commands: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        commands.put(json.loads(line))
    os._exit(0)  # not sys.exit, which would wait for stages that hang


def _run(command: dict[str, Any], context: StageContext) -> dict[str, Any]:
    """Run one stage; returns how it ended, and the peak of memory so far."""
    outcome: dict[str, Any] = {}
    _in_threads.errors.clear()
    context.begin(command["seconds"])
    try:
        module, _, function = command["function"].partition(":")
        getattr(importlib.import_module(module), function)(context)
    except Exception as error:
        traceback.print_exc()
        errors = [error, *_in_threads.errors]
        outcome = {
            "error": "; after ".join(f"{type(each).__name__}: {each}"[:300] for each in errors),
            "out_of_memory": any(map(_out_of_memory, errors)),
            "crashed": _device_lost(),
        }
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {**outcome, "host_gigabytes": host, **_device_memory()}


def _device_memory() -> dict[str, float]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    try:
        return {
            "device_gigabytes": torch.cuda.max_memory_allocated() / 1e9,
            "reserved_gigabytes": torch.cuda.max_memory_reserved() / 1e9,
        }
    except RuntimeError:  # an earlier error of the device ends every later call
        return {}


def _device_lost() -> bool:
    """Whether an error of the device has ended all its work in this process, as an illegal access does."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether memory was the reason, also behind another error; the supervisor then tries fewer slots."""
    while error is not None:
        if isinstance(error, MemoryError) or any(words in str(error) for words in _WORDS_OF_MEMORY):
            return True
        if "torch" in sys.modules:
            from higgs_core.failures.device_memory import is_out_of_memory  # loads torch, which a stage may do without

            if is_out_of_memory(error):
                return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    main()
