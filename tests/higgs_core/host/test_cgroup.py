"""What a container may use, out of trees of control groups as kernels lay them out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from higgs_core import sized_cache
from higgs_core.host.cgroup import cpu_quota, memory_left
from higgs_core.host.cpu_threads import keep_to_quota

GIB = 1 << 30
NO_LIMIT_V1 = 9223372036854771712


def tree(folder: Path, groups: str, **files: str | int) -> tuple[Path, Path]:
    """The root and /proc/self/cgroup. files: "a__b__memory_max" is a/b/memory.max, and so on."""
    root = folder / "cgroup"
    root.mkdir()
    for name, content in files.items():
        *folders, file = name.split("__")
        path = root.joinpath(*folders, file.replace("memory_", "memory.", 1).replace("cpu_", "cpu.", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    own = folder / "own"
    own.write_text(groups)
    return root, own


@pytest.mark.parametrize(
    ("groups", "files", "left"),
    [
        ("0::/\n", {"memory_max": 4 * GIB, "memory_current": GIB, "memory_stat": "anon 5"}, 3 * GIB),
        ("0::/\n", {"memory_max": 4 * GIB, "memory_current": 5 * GIB}, 0),
        ("0::/\n", {"memory_max": "max", "memory_current": GIB}, None),
        (  # read files are charged to the group, and the kernel drops them when it must
            "0::/\n",
            {"memory_max": 4 * GIB, "memory_current": 4 * GIB, "memory_stat": f"anon 1\ninactive_file {3 * GIB}"},
            3 * GIB,
        ),
        ("0::/gone/elsewhere\n", {"memory_max": 4 * GIB, "memory_current": GIB}, 3 * GIB),
        ("0::/../..\n", {"memory_max": 4 * GIB, "memory_current": GIB}, 3 * GIB),
        (  # the tightest on the way up
            "0::/a/b\n",
            {
                "a__memory_max": 2 * GIB,
                "a__memory_current": GIB,
                "a__b__memory_max": "max",
                "a__b__memory_current": GIB,
            },
            GIB,
        ),
        (
            "5:memory:/docker/4f\n0::/\n",
            {"memory__memory_limit_in_bytes": 4 * GIB, "memory__memory_usage_in_bytes": GIB},
            3 * GIB,
        ),
        (
            "5:memory:/\n",
            {
                "memory__memory_limit_in_bytes": 4 * GIB,
                "memory__memory_usage_in_bytes": 4 * GIB,
                "memory__memory_stat": f"inactive_file 7\ntotal_inactive_file {GIB}",
            },
            GIB,
        ),
        ("5:memory:/\n", {"memory__memory_limit_in_bytes": "broken", "memory__memory_usage_in_bytes": GIB}, None),
        ("", {}, None),
        ("no group at all\n", {"memory_max": "-3", "memory_current": "x"}, None),
    ],
)
def test_memory_up_to_the_limit(tmp_path: Path, groups: str, files: dict[str, str | int], left: int | None) -> None:
    assert memory_left(*tree(tmp_path, groups, **files)) == left


def test_no_limit_of_version_1_is_more_than_any_host_has(tmp_path: Path) -> None:
    files: dict[str, str | int] = {
        "memory__memory_limit_in_bytes": NO_LIMIT_V1,
        "memory__memory_usage_in_bytes": GIB,
    }
    left = memory_left(*tree(tmp_path, "5:memory:/\n", **files))
    assert left is not None
    assert left > 1 << 60


def test_the_plan_of_a_cpu_keeps_to_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sized_cache, "memory_left", lambda: 12345)
    assert sized_cache.device_memory(torch.device("cpu")).free == 12345
    monkeypatch.setattr(sized_cache, "memory_left", lambda: None)
    assert sized_cache.device_memory(torch.device("cpu")).free > 12345


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu_max": "150000 100000"}, 1.5),
        ("0::/\n", {"cpu_max": "max 100000"}, None),
        ("0::/a/b\n", {"a__cpu_max": "200000 100000", "a__b__cpu_max": "300000 100000"}, 2.0),
        ("3:cpu,cpuacct:/docker/4f\n", {"cpu__cpu_cfs_quota_us": 250000, "cpu__cpu_cfs_period_us": 100000}, 2.5),
        ("3:cpu,cpuacct:/\n", {"cpu,cpuacct__cpu_cfs_quota_us": 50000, "cpu,cpuacct__cpu_cfs_period_us": 100000}, 0.5),
        ("3:cpu,cpuacct:/\n", {"cpu__cpu_cfs_quota_us": -1, "cpu__cpu_cfs_period_us": 100000}, None),
        ("3:cpu:/\n", {"cpu__cpu_cfs_quota_us": 100000, "cpu__cpu_cfs_period_us": 0}, None),
        ("4:cpuset:/\n", {"cpuset__cpu_cfs_quota_us": 100000, "cpuset__cpu_cfs_period_us": 100000}, None),
        ("", {}, None),
    ],
)
def test_cpus_of_the_quota(tmp_path: Path, groups: str, files: dict[str, str | int], quota: float | None) -> None:
    assert cpu_quota(*tree(tmp_path, groups, **files)) == quota


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delitem(os.environ, "OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
class TestThreads:
    @pytest.mark.parametrize(("quota", "threads"), [(0.5, 1), (1.0, 1), (2.9, 2), (4.0, 4), (64.0, 4)])
    def test_torch_uses_as_many_as_the_quota_pays_for(self, quota: float, threads: int) -> None:
        keep_to_quota(quota)
        assert torch.get_num_threads() == threads

    def test_without_a_quota_torch_decides(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("higgs_core.host.cpu_threads.cpu_quota", lambda: None)
        keep_to_quota()
        assert torch.get_num_threads() == 4

    def test_the_operators_number_goes_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        keep_to_quota(1.0)
        assert torch.get_num_threads() == 4
