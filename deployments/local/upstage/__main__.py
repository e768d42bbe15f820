"""Runs the stand-in: `python -m deployments.local.upstage --port N --data-dir DIR --api-key KEY`."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from pathlib import Path

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette

from deployments.local.upstage.app import create_app
from deployments.local.upstage.recognise import OcrRecogniser, Recogniser, TextRecogniser
from deployments.local.upstage.settings import Limits, Settings
from deployments.local.upstage.transport import BreakableProtocol


def _parser() -> argparse.ArgumentParser:
    settings, limits = Settings.model_fields, Limits.model_fields
    parser = argparse.ArgumentParser(
        prog="python -m deployments.local.upstage",
        description="A stand-in for the Upstage OCR API on this machine.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen on; others than loopback are for containers",
    )
    parser.add_argument("--port", type=int, required=True, help="the port to listen on")
    parser.add_argument("--data-dir", type=Path, required=True, help="where requests and results are kept")
    parser.add_argument("--api-key", required=True, help="the key that callers have to send")
    parser.add_argument(
        "--recogniser",
        choices=["ocr", "text"],
        default="ocr",
        help="ocr reads for real; text is fast and predictable, for tests",
    )
    parser.add_argument(
        "--face", choices=["documented", "recorded"], default="documented", help=settings["face"].description
    )
    parser.add_argument(
        # With two, the same page takes 70% more processor time: the threads wait for each other busily.
        "--ocr-threads",
        type=int,
        default=1,
        help="cores that recognition may use",
    )
    for flag, model in [
        ("seconds_per_page", settings),
        ("queue_seconds", settings),
        ("url_seconds", settings),
        ("sync_pages", limits),
        ("async_pages", limits),
        ("max_bytes", limits),
    ]:
        field = model[flag]
        kind = int if field.annotation is int else float
        parser.add_argument(f"--{flag.replace('_', '-')}", type=kind, default=field.default, help=field.description)
    return parser


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app: Starlette = self.config.app  # type: ignore[assignment]  # uvicorn takes other kinds of app as well
        app.state.going_down()
        await super().shutdown(sockets)


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = _parser()
    args = parser.parse_args()
    try:
        settings = Settings(
            api_key=args.api_key,
            face=args.face,
            seconds_per_page=args.seconds_per_page,
            queue_seconds=args.queue_seconds,
            url_seconds=args.url_seconds,
            limits=Limits(sync_pages=args.sync_pages, async_pages=args.async_pages, max_bytes=args.max_bytes),
        )
    except ValidationError as error:
        parser.error("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))
    recogniser: Recogniser = TextRecogniser() if args.recogniser == "text" else OcrRecogniser(args.ocr_threads)
    app = create_app(args.data_dir, settings, recogniser)
    config = uvicorn.Config(
        app,
        host=args.host,
        port=args.port,
        http=BreakableProtocol,
        loop="asyncio",
        ws="none",
        proxy_headers=False,
        access_log=False,  # it would hold download URLs
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    # uvicorn raises a caught signal again after it has shut down, but stopping on request is not a failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _Server(config).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
