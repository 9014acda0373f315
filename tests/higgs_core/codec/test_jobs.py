"""The order of the codec's work: streams first, nothing waits for ever, batches bounded in frames."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
import torch

from higgs_core.codec.audio_codec import MAX_DECODE_FRAMES
from higgs_core.codec.jobs import MAX_PASSED_OVER, DecodeJob, JobQueue, Task, Urgency
from higgs_core.codec.pieces import CONTEXT_FRAMES
from higgs_core.rates import FRAME_SAMPLES


def decode(frames: int, urgency: Urgency = Urgency.STREAM) -> DecodeJob:
    return DecodeJob(torch.arange(frames).repeat(8, 1), urgency)


def task() -> Task:
    return Task(lambda: None, Future())


def decoded(job: DecodeJob) -> torch.Tensor:
    """Audio in which every sample is the number of its frame."""
    return job.next_codes()[0].repeat_interleave(FRAME_SAMPLES).float()


def test_the_most_urgent_is_next_and_equals_go_by_their_arrival() -> None:
    queue = JobQueue()
    whole, clips, chunks = decode(5, Urgency.WHOLE), [task(), task()], [decode(11), decode(13)]
    queue.add_decode(whole)
    for clip in clips:
        queue.add_task(clip)
    for chunk in chunks:
        queue.add_decode(chunk)
    assert [queue.pop() for _ in range(5)] == [[chunks[0]], [chunks[1]], clips[0], clips[1], [whole]]
    assert not queue


@pytest.mark.parametrize("other", [Urgency.ENCODE, Urgency.WHOLE])
def test_under_constant_streams_everything_else_has_its_turn_in_time(other: Urgency) -> None:
    queue = JobQueue()
    waiting: list[Task | DecodeJob] = []
    for _ in range(3):
        if other is Urgency.ENCODE:
            waiting.append(clip := task())
            queue.add_task(clip)
        else:
            waiting.append(whole := decode(len(waiting) + 1, Urgency.WHOLE))
            queue.add_decode(whole)
    turns = []
    for _ in range(3 * (MAX_PASSED_OVER + 1)):
        queue.add_decode(decode(84))  # there is always a stream that waits
        turns.append(queue.pop())
    flat = [each[0] if isinstance(each, list) else each for each in turns]
    assert [flat.index(each) for each in waiting] == [(n + 1) * (MAX_PASSED_OVER + 1) - 1 for n in range(3)]


def test_streams_and_clips_together_do_not_starve_whole_decodes() -> None:
    queue = JobQueue()
    queue.add_decode(whole := decode(7, Urgency.WHOLE))
    turns = []
    while [whole] not in turns:
        queue.add_decode(decode(84))
        queue.add_task(task())
        turns.append(queue.pop())
        assert len(turns) <= MAX_PASSED_OVER + 2


def test_streams_get_most_turns_whatever_else_waits() -> None:
    queue = JobQueue()
    streams = 0
    for _ in range(60):
        queue.add_decode(decode(84))
        queue.add_task(task())
        queue.add_decode(decode(7, Urgency.WHOLE))
        popped = queue.pop()
        streams += isinstance(popped, list) and popped[0].urgency is Urgency.STREAM
    assert streams >= 60 * (MAX_PASSED_OVER - 1) // (MAX_PASSED_OVER + 1)


@pytest.mark.parametrize(("frames", "together"), [(11, 90), (84, 11), (500, 2), (501, 1), (1000, 1)])
def test_a_batch_is_bounded_in_frames(frames: int, together: int) -> None:
    queue = JobQueue()
    for _ in range(100):
        queue.add_decode(decode(frames))
    batch = queue.pop()
    assert isinstance(batch, list)
    assert len(batch) == together
    assert len(batch) * frames <= MAX_DECODE_FRAMES


def test_only_equal_lengths_of_one_urgency_run_together_and_the_rest_keeps_its_order() -> None:
    queue = JobQueue()
    jobs = [decode(frames) for frames in (11, 84, 11, 13, 84)]
    whole = decode(11, Urgency.WHOLE)
    for job in [whole, *jobs]:
        queue.add_decode(job)
    assert queue.pop() == [jobs[0], jobs[2]]
    assert queue.pop() == [jobs[1], jobs[4]]
    assert queue.pop() == [jobs[3]]
    assert queue.pop() == [whole]


def test_a_long_decode_gives_way_after_each_piece_and_its_audio_is_whole() -> None:
    queue = JobQueue()
    frames = 2 * MAX_DECODE_FRAMES + 100
    long, late = decode(frames, Urgency.WHOLE), decode(5, Urgency.WHOLE)
    queue.add_decode(long)
    assert queue.pop() == [long]
    assert long.next_codes().shape == (8, MAX_DECODE_FRAMES)
    assert not long.add(decoded(long))
    queue.add_decode(late)
    queue.add_decode(long)
    assert queue.pop() == [late], "it came before the second piece"
    while not long.future.done():
        assert queue.pop() == [long]
        assert long.next_piece.decoded_frames <= MAX_DECODE_FRAMES
        if not long.add(decoded(long)):
            queue.add_decode(long)
    expected = torch.arange(frames).repeat_interleave(FRAME_SAMPLES).float()
    assert torch.equal(torch.from_numpy(long.future.result()), expected)


def test_the_audio_of_a_row_does_not_keep_its_batch() -> None:
    job = decode(3)
    batch = torch.zeros(5, 3 * FRAME_SAMPLES)
    assert job.add(batch[2])
    batch.fill_(1)
    assert job.future.result().max() == 0


def test_clearing_hands_out_every_future() -> None:
    queue = JobQueue()
    jobs = [decode(3), decode(CONTEXT_FRAMES, Urgency.WHOLE), task()]
    for job in jobs:
        queue.add_task(job) if isinstance(job, Task) else queue.add_decode(job)
    assert set(queue.clear()) == {job.future for job in jobs}
    assert not queue
