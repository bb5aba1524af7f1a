"""Errors carry a code, advice and whether a retry helps."""

from __future__ import annotations

import copy

import pytest

import holocompute as hc
from holocompute import _native


def test_a_failure_of_the_native_half_has_code_and_advice() -> None:
    with pytest.raises(hc.HoloError) as refused:
        _native.expression_dtype("sqrt(x", [("x", "float64")])
    error = refused.value
    assert error.code == "HC1005"
    assert "^" in error.message, "it points at the place"
    assert not error.retryable
    assert str(error).startswith("[HC1005] ")


def test_an_unknown_name_points_at_itself() -> None:
    with pytest.raises(hc.HoloError, match="yy"):
        _native.expression_dtype("x + yy", [("x", "float64")])


def test_errors_can_be_copied_and_keep_their_attributes() -> None:
    error = hc.HoloError("HC1407", "gone", "look elsewhere", False, True)
    twin = copy.copy(error)
    assert (twin.code, twin.message, twin.help) == ("HC1407", "gone", "look elsewhere")
    assert (twin.retryable, twin.outcome_unknown) == (False, True)
    assert "look elsewhere" in str(twin)


def test_without_anywhere_to_connect_to_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOLO_CLUSTER", raising=False)
    monkeypatch.delenv("HOLO_IDENTITY", raising=False)
    with pytest.raises(hc.HoloError) as refused:
        hc.connect()
    assert refused.value.code == "HC1008"
    assert "HOLO_" in (refused.value.help or "")


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(hc.HoloError, match="/nowhere/holo"):
        hc.local(1, binary="/nowhere/holo")


def test_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert hc.__version__ == version("holocompute")
