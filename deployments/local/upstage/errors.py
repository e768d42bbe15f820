"""Errors as the API words them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from starlette.responses import JSONResponse

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """An answer of the API that is not the one the caller hoped for."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


class CorruptedDocumentError(Exception):
    """A document, or one of its pages, cannot be read."""


def invalid_model() -> ApiError:
    """Return the error for a model that the account may not use here."""
    return ApiError(400, "invalid model name")


def no_async(status: int) -> ApiError:
    """Return the error for an asynchronous submit that the account may not make.

    Args:
        status: 400, 404 or 405, which say it in their own words.
    """
    messages = {404: "not found", 405: "method not allowed"}
    return ApiError(status, messages[status]) if status in messages else invalid_model()


def error_answer(error: ApiError, nested: Collection[int]) -> JSONResponse:
    """Put an error into one of the API's two bodies.

    Args:
        error: what to say.
        nested: the status codes that use `{"error": {...}}`.

    Returns:
        The answer.
    """
    if error.status in nested:
        kind = _TYPES.get(error.status, "api_error")
        body: dict[str, object] = {"error": {"message": error.message, "type": kind, "code": str(error.status)}}
    else:
        body = {"code": error.status, "message": error.message}
    return JSONResponse(body, status_code=error.status, headers=error.headers)
