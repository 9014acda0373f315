"""The image that deploy/image/build.sh built, started as a container runtime would: on its root, by its settings.

A process gets its own mounts and process numbers and is number 1 there, as the image's user; the network is this
machine's.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.helpers.patience import PATIENCE, wait_until

# The root is read-only and /tmp writable, as with `docker run --read-only --tmpfs /tmp`.
_SET_UP = """set -e
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
mount --rbind /dev "$1/dev"
mount -o remount,bind,ro "$1" "$1"
root="$1" user="$2"
shift 2
cd /
exec chroot --userspec="$user" "$root" "$@"
"""


@dataclass(frozen=True)
class Image:
    """root: of the files.  config: the image's settings, as Docker names them (User, Env, Entrypoint, Cmd, …)."""

    root: Path
    config: dict[str, Any]

    @classmethod
    def of_the_environment(cls) -> Image | None:
        """What build.sh gives the tests; None without."""
        if "IMAGE_ROOTFS" not in os.environ:
            return None
        inspected = json.loads(Path(os.environ["IMAGE_CONFIG"]).read_text())
        return cls(Path(os.environ["IMAGE_ROOTFS"]), inspected["Docker"]["config"])

    def command(self, *program: str, user: str | None = None, **environment: str) -> list[str]:
        """What starts a program in the image; without one, what the image itself starts."""
        variables = {"HOME": "/home/worker", **dict(entry.split("=", 1) for entry in self.config["Env"]), **environment}
        inside = program or (*self.config["Entrypoint"], *self.config["Cmd"])
        folder = f'cd {shlex.quote(self.config["WorkingDir"])} && exec "$@"'
        return [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _SET_UP, "sh"),
            *(str(self.root), user or self.config["User"], "env", "-i"),
            *(f"{name}={value}" for name, value in variables.items()),
            *("sh", "-c", folder, "sh", *inside),
        ]

    def run(self, *program: str, user: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, whatever that is."""
        command = self.command(*program, user=user, **environment)
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


class Container:
    """The image's own command as a process. Use as a context manager; its end ends everything inside."""

    def __init__(self, image: Image, log: Path, *program: str, **environment: str) -> None:
        self._command = image.command(*program, **environment)
        self._log = log

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def wait_for_line(self, part: str) -> None:
        """Until the log holds `part`."""

        def holds() -> bool:
            assert part in self.log or self.runs, f"it ended:\n{self.log}"
            return part in self.log

        wait_until(holds)

    def first_process(self) -> int:
        """The number, on this machine, of what is process 1 inside."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        wait_until(lambda: bool(children.read_text().split()))
        return int(children.read_text().split()[0])

    def sigterm(self) -> None:
        """As a container runtime does it: to process 1."""
        os.kill(self.first_process(), signal.SIGTERM)

    def wait_for_exit(self) -> int:
        return self._process.wait(PATIENCE)
