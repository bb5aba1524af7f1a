"""Exceptions of the package."""

from __future__ import annotations

__all__ = ["HoloError", "NotSupported"]


class HoloError(Exception):
    """A call failed; `code` is the same in every interface of HoloCompute.

    Attributes:
        code: Stable code, such as ``"HC1101"``.
        message: What happened.
        help: What to do about it, or ``None``.
        retryable: Whether the same call may succeed later and has done nothing so far.
        outcome_unknown: Whether nobody knows if the call took effect: read before you try again.
    """

    def __init__(
        self,
        code: str,
        message: str,
        help: str | None = None,
        retryable: bool = False,
        outcome_unknown: bool = False,
    ) -> None:
        text = f"[{code}] {message}" if help is None else f"[{code}] {message}\n  help: {help}"
        super().__init__(text)
        self.code = code
        self.message = message
        self.help = help
        self.retryable = retryable
        self.outcome_unknown = outcome_unknown

    def __reduce__(self) -> tuple[type[HoloError], tuple[str, str, str | None, bool, bool]]:
        return (HoloError, (self.code, self.message, self.help, self.retryable, self.outcome_unknown))


class NotSupported(HoloError, NotImplementedError):
    """The operation does not exist on distributed arrays; the message names what to use instead."""

    def __init__(self, what: str, instead: str) -> None:
        super().__init__("HC1801", f"{what} is not supported", instead)


class NotSupportedAttribute(NotSupported, AttributeError):
    """A NumPy attribute that distributed arrays do not have; ``hasattr`` sees it as missing."""


def make_error(code: str, message: str, help: str | None, retryable: bool, outcome_unknown: bool) -> HoloError:
    """Called by the native half."""
    return HoloError(code, message, help, retryable, outcome_unknown)
