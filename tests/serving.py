"""HTTP servers of the tests' own, that behave as those of others do: a bank's, a bot's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

# The status and the JSON of an answer; None: the connection is cut instead.
Answer = tuple[int, bytes] | None


@contextmanager
def serving(answer: Callable[[str, bytes], Answer]) -> Iterator[str]:
    """Let `answer(path, body)` answer each POST, on a port of its own; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        # Connections are kept.
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            answered = answer(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            if answered is None:
                self.close_connection = True
                return
            status, body = answered
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                # Who asked was killed.
                return

    class Server(ThreadingHTTPServer):
        # Callers who may wait to be let in.
        request_queue_size = 128
        # Who keeps a connection does not keep the server from its end.
        block_on_close = False

    server = Server(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
