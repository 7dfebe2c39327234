"""Shards of digits, and a web server that gives them, or fails to."""

from __future__ import annotations

import contextlib
import io
import re
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from sparring.data.stream_index import Index
from sparring.data.tar_shards import Encoded, write_tars


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def write_digits(folder: Path, count: int = 120, per_shard: int = 16, *, labelled: bool = True) -> Index:
    """The first digits, 8×8, as shards with an index."""
    digits = load_digits()
    images = np.rint(digits.images[:count] * (255 / 16)).astype(np.uint8)
    labels = [str(label) for label in digits.target[:count]]
    folder.mkdir(parents=True, exist_ok=True)
    encoded = [
        Encoded(png(image), "png", (8, 8, 1), label if labelled else None)
        for image, label in zip(images, labels, strict=True)
    ]
    return write_tars(folder, encoded, sorted(set(labels)) if labelled else (), shard_samples=per_shard)


def write_tar(file: Path, members: dict[str, bytes]) -> Path:
    """A tar as another program might write it."""
    with tarfile.open(file, "w:") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file


class Server:
    """A folder on a port of this machine.

    url: of the folder. ranges: whether it can send a part of a file. asked: (path, first byte) of each request.
    fail: (path, number of the request for it) → None, or what becomes of it: "drop" ends the connection in the middle,
        "error" is a 503, "forbidden" a 403.
    """

    def __init__(self, folder: Path, *, ranges: bool = True) -> None:
        self.ranges = ranges
        self.asked: list[tuple[str, int]] = []
        self.fail: Callable[[str, int], str | None] = lambda path, number: None
        self.slow = 0.0
        server = self

        class Handler(SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                file = folder / self.path.lstrip("/")
                wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
                first = int(wanted[1]) if wanted else 0
                server.asked.append((self.path, first))
                number = sum(path == self.path for path, _ in server.asked)
                failure = server.fail(self.path, number)
                if failure in ("error", "forbidden"):
                    self.send_error(503 if failure == "error" else 403)
                    return
                if not file.is_file():
                    self.send_error(404)
                    return
                data = file.read_bytes()
                if wanted and server.ranges:
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {first}-{wanted[2]}/{len(data)}")
                    data = data[first : int(wanted[2]) + 1]
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                time.sleep(server.slow)
                if failure == "drop":
                    self.wfile.write(data[: len(data) // 2])
                    self.close_connection = True
                    return
                with contextlib.suppress(OSError):  # a client that was killed
                    self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[Server]:
        """The server, answering."""
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
