"""An OpenAI-compatible service in this process, over real HTTP, that misbehaves when it is told to.

`python service.py ADDRESS_FILE SECONDS` runs a well-behaved one in a process of its own, for tests that kill its
clients and for benchmarks.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

WIDTH = 8


@dataclass
class Reply:
    """What is sent back: a JSON body, or text that is none."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    hang_up: bool = False


@dataclass
class Received:
    """One request as it arrived."""

    path: str
    body: Any
    headers: dict[str, str]
    at: float

    @property
    def asked(self) -> Any:
        """The last message's text, or the texts to be embedded."""
        return self.body["messages"][-1]["content"] if "messages" in self.body else self.body["input"]


def completion(text: str | None, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": finish_reason,
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
    }


def vector_of(text: str, width: int = WIDTH) -> list[float]:
    """Some vector that is always the same for a text."""
    return np.random.default_rng(list(text.encode())).standard_normal(width).astype(np.float32).tolist()


def embeddings(texts: list[str], width: int = WIDTH) -> dict[str, Any]:
    """The body of an embeddings response."""
    rows = [{"object": "embedding", "index": n, "embedding": vector_of(text, width)} for n, text in enumerate(texts)]
    return {"object": "list", "data": rows, "model": "e", "usage": {"prompt_tokens": 5 * len(texts)}}


def well_behaved(received: Received, nth: int) -> Reply:
    """An answer that names the question, or vectors."""
    if received.path.endswith("/embeddings"):
        texts = received.asked if isinstance(received.asked, list) else [received.asked]
        return Reply(embeddings(texts, received.body.get("dimensions", WIDTH)))
    return Reply(completion(f"about {received.asked}"))


class Service:
    """A server on a port of its own.

    Attributes
    ----------
    behave : callable
        From a request and how often its very content came (from 1) to a `Reply`.
    requests : list of Received
        All that arrived.
    most_at_once : int
        The most requests that were being answered at the same time.
    """

    def __init__(self, behave: Callable[[Received, int], Reply] = well_behaved, seconds: float = 0.0) -> None:
        self.behave, self.seconds = behave, seconds
        self.requests: list[Received] = []
        self.times_asked: Counter[str] = Counter()
        self.most_at_once = self.at_once = 0
        self.lock = threading.Lock()
        self.server = _Server(("127.0.0.1", 0), _handler_of(self))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def reply(self, received: Received) -> Reply:
        content = json.dumps(received.asked)
        with self.lock:
            self.requests.append(received)
            self.times_asked[content] += 1
            nth = self.times_asked[content]
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            reply = self.behave(received, nth)
            time.sleep(reply.seconds or self.seconds)
            return reply
        finally:
            with self.lock:
                self.at_once -= 1

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the game."""


def _handler_of(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = service.reply(Received(self.path, body, headers, time.monotonic()))
            if reply.hang_up:
                self.close_connection = True
                return
            text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
            content = text.encode()
            self.send_response(reply.status)
            sent = {"Content-Type": "application/json", "Content-Length": str(len(content))} | reply.headers
            head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
            self._headers_buffer.append(head.encode())
            self._headers_buffer.append(b"\r\n")
            self.wfile.write(b"".join(self._headers_buffer) + content)
            self._headers_buffer = []

        def log_message(self, *arguments: Any) -> None:
            pass

    return Handler


def main() -> None:
    """Serve until killed; write the address into a file, and every question as a line of a second one."""
    address_file, seconds = Path(sys.argv[1]), float(sys.argv[2])
    questions = Path(f"{address_file}.questions")

    def behave(received: Received, nth: int) -> Reply:
        with questions.open("a") as stream:
            stream.write(json.dumps(received.asked) + "\n")
        return well_behaved(received, nth)

    service = Service(behave, seconds)
    part = address_file.with_suffix(".part")
    part.write_text(service.url)
    part.rename(address_file)
    threading.Event().wait()


if __name__ == "__main__":
    main()
