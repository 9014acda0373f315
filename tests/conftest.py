"""Fixtures that several suites share. Everything here runs on a CPU and needs no network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are tiny: a second thread costs more than it gives
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import pytest
from hypothesis import HealthCheck, settings

# An example may take as long as a busy machine needs for it.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

SLOW = (
    "benchmarks",
    "demo_voice/test_hearing.py",
    "deploy/test_manifests.py",
    "higgs_core/audio/test_audio_bombs.py",
    "higgs_core/audio/test_child_process.py",
    "higgs_core/checkpoint/test_default_path.py",
    "higgs_core/kernels/test_cross_compile.py",
    "higgs_core/kernels/test_in_interpreter.py",
    "higgs_core/kernels/test_skinny_gemm.py",
    "higgs_core/model/test_dual_ffn_subset.py",
    "higgs_core/runtime",
    "higgs_core/speech/test_lost_words.py",
    "higgs_core/speech/test_parallel_pieces.py",
    "higgs_core/speech/test_speak.py",
    "higgs_core/test_quantized_engine.py",
    "serverless/client/batch/test_full_disk.py",
    "serverless/client/batch/test_interrupted_batch.py",
    "serverless/client/test_ctrl_c.py",
    "serverless/config/test_startup.py",
    "serverless/http",
    "serverless/queue/test_lifecycle.py",
    "serverless/queue/test_platform_faults.py",
    "serverless/queue/test_streaming_worker.py",
    "serverless/queue/test_worker_process.py",
    "serverless/service/test_abandoned_jobs.py",
    "serverless/service/test_boot.py",
    "serverless/service/test_failures.py",
    "serverless/service/test_service.py",
    "serverless/service/test_piece_texts.py",
    "serverless/service/test_short_audio.py",
    "serverless/service/test_undeliverable.py",
    "serverless/test_hung_processes.py",
    "serverless/service/test_slow_readers.py",
    "serverless/test_local_run.py",
    "serverless/voices/test_added_voices.py",
    "serverless/voices/test_changing_folder.py",
    "serverless/voices/test_failing_volume.py",
    "serverless/voices/test_made_once.py",
    "serverless/voices/test_shared_folder.py",
    "serverless/voices/test_unwritable_folder.py",
    "soak/test_soak.py",
    "serverless/test_nothing_in_the_log.py",
    "test_imports.py",
    "test_regexes.py",
    "docs/test_snippets.py",
    "docs/test_tables.py",
)
"""Files and folders of tests that start processes, servers or a browser, compile kernels or generate much speech."""

if TYPE_CHECKING:
    from higgs_core import HiggsAudioEngine
    from tests.helpers.http_server import Running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    slow = [folder / name for name in SLOW]
    for item in items:
        if any(item.path.is_relative_to(path) for path in slow):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)  # in parallel the slow files begin first


@pytest.fixture(scope="session")
def tiny_engine() -> Iterator[HiggsAudioEngine]:
    """The built-in random checkpoint, 8 slots, on the CPU in fp32."""
    from higgs_core import HiggsAudioEngine

    with HiggsAudioEngine.from_pretrained("tiny", device="cpu", max_batch_size=8, max_context=4096) as engine:
        yield engine


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The HTTP server with `tiny` and one voice, belinda. For fixtures that outlive a test; tests take `server`."""
    from serverless.config.settings import Settings
    from tests.helpers.http_server import serving_http
    from tests.helpers.voices import voice_folder

    settings = Settings(model_id="tiny", device="cpu", voices_dir=voice_folder(tmp_path_factory.mktemp("voices")))
    with serving_http(settings) as running:
        yield running


@pytest.fixture
def server(shared_server: Running) -> Iterator[Running]:
    """The shared server. No test leaves a request behind in it."""
    from tests.helpers.patience import wait_until

    yield shared_server
    wait_until(shared_server.idle)
