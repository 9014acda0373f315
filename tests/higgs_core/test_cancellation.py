"""A token's callbacks run once, whichever of registering and cancelling comes first."""

from __future__ import annotations

import pytest

from higgs_core.cancellation import CancelToken
from higgs_core.errors import GenerationCancelled


def test_cancelling_calls_what_is_registered_once() -> None:
    token, calls = CancelToken(), []
    with token.on_cancel(lambda: calls.append("first")), token.on_cancel(lambda: calls.append("second")):
        token.cancel()
        token.cancel()
    assert calls == ["first", "second"]
    with pytest.raises(GenerationCancelled):
        token.raise_if_cancelled()


def test_registering_with_a_cancelled_token_calls_at_once() -> None:
    token, calls = CancelToken(), []
    token.cancel()
    with token.on_cancel(lambda: calls.append("late")):
        assert calls == ["late"]
    assert calls == ["late"]


def test_nobody_is_called_after_the_block() -> None:
    token, calls = CancelToken(), []
    with token.on_cancel(lambda: calls.append("gone")):
        pass
    token.cancel()
    assert calls == []


def test_a_token_that_is_not_cancelled_raises_nothing() -> None:
    CancelToken().raise_if_cancelled()
