"""A loopback HTTP server that takes notifications, as a chat's webhook would."""

import json
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.serving import Serving
from tests.waiting import PATIENCE


class Inbox(Serving):
    """Notifications that came, in their order. Use as a context manager."""

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._messages: list[dict[str, Any]] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                inbox._put(json.loads(body))

            def log_message(self, format: str, *args: object) -> None:
                """Nothing on the test's output."""

        super().__init__(Handler)

    def _put(self, message: dict[str, Any]) -> None:
        with self._arrived:
            self._messages.append(message)
            self._arrived.notify_all()

    def about(self, words: str) -> list[dict[str, Any]]:
        """The messages so far with these words in their subject."""
        with self._arrived:
            return [message for message in self._messages if words in message["subject"]]

    def first(self) -> dict[str, Any]:
        """The first message, whatever it is about; waits for it."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: self._messages, PATIENCE), "nothing came"
            return self._messages[0]

    def subjects(self) -> list[str]:
        """All subjects so far."""
        with self._arrived:
            return [message["subject"] for message in self._messages]

    def wait_for(self, words: str) -> dict[str, Any]:
        """The first message with these words in its subject; waits for it."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.about(words), PATIENCE), (words, self._messages)
        return self.about(words)[0]
