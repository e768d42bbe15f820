"""Errors in the API's words."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from starlette.responses import JSONResponse

# Type and code that were recorded with a message; other errors have only the status.
_KINDS = {
    400: ("invalid_request_error", "invalid_request_body"),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "api_key_is_not_allowed"),
    413: ("invalid_request_error", "invalid_document"),
    429: ("too_many_requests", "too_many_requests"),
}


class ApiError(Exception):
    """An error answer of the API."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


class CorruptedDocumentError(Exception):
    """A document, or one of its pages, cannot be read."""


def invalid_model() -> ApiError:
    """Return the error for a model that the account may not use here."""
    return ApiError(
        400,
        "The requested model is invalid or no longer supported. You can find the list of available models on our "
        "models page.",
    )


def no_credit() -> ApiError:
    """Return the error for an account that has used up its credit."""
    return ApiError(403, "API key suspended due to insufficient credit. Register your payment method to continue.")


def no_async(status: int) -> ApiError:
    """Return the error for an asynchronous submit that the account may not make.

    Args:
        status: 400, 404 or 405, which have different messages.
    """
    messages = {404: "not found", 405: "method not allowed"}
    return ApiError(status, messages[status]) if status in messages else invalid_model()


def error_answer(error: ApiError, nested: Collection[int]) -> JSONResponse:
    """Format an error as one of the API's two bodies.

    Args:
        error: the error.
        nested: the status codes that use `{"error": {...}}`.

    Returns:
        The answer.
    """
    if error.status in nested:
        kind, code = _KINDS.get(error.status, ("api_error", str(error.status)))
        body: dict[str, object] = {"error": {"message": error.message, "type": kind, "param": "", "code": code}}
    else:
        body = {"code": error.status, "message": error.message}
    return JSONResponse(body, status_code=error.status, headers=error.headers)
