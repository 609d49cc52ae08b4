"""A mail server and a Bot API that take all there is. Run with: python -m benchmarks.sinks SMTP-PORT HTTP-PORT FILE

Writes a line to the file for each message, as often as it comes: its channel, and the notification's id.
"""

import re
import sys
from email.parser import BytesHeaderParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

REFERENCE = re.compile(rb"<code>([0-9a-f-]{36})")


def main(smtp_port: int, http_port: int, path: Path) -> None:
    """Serve until the process is ended."""
    with path.open("a", buffering=1) as file:

        class Mail:
            async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
                headers = BytesHeaderParser().parsebytes(envelope.content)
                file.write(f"EMAIL {headers['Message-ID'].strip('<>').partition('@')[0]}\n")
                return "250 OK"

        class Telegram(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                found = REFERENCE.search(self.rfile.read(int(self.headers["Content-Length"])))
                file.write(f"TELEGRAM {found[1].decode() if found else '?'}\n")
                body = b'{"ok": true, "result": {}}'
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        Controller(Mail(), hostname="127.0.0.1", port=smtp_port).start()
        ThreadingHTTPServer(("127.0.0.1", http_port), Telegram).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
