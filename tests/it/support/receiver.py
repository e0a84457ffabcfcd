"""A receiver of webhooks: notes every request on a line of a file, and answers as another file says.

receiver.py PORT SEEN ANSWERS [CERTIFICATE KEY]

The secret comes from the variable RECEIVER_SECRET. ANSWERS is a JSON list of {"status", "headers", "body", "delay"}:
the first request gets the first of them, and so on; the last one stays. Without the file every answer is 200.
"""

import hashlib
import hmac
import http.server
import json
import os
import socketserver
import ssl
import sys
import threading
import time

PORT, SEEN, ANSWERS = int(sys.argv[1]), sys.argv[2], sys.argv[3]
LOCK = threading.Lock()
COUNT = 0


def genuine(secret, timestamp, signature, body):
    """The signature computed again from the bytes that came."""
    signed = (timestamp or "").encode() + b"." + body
    expected = "v1=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, signature or "")


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global COUNT
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        head = {name.lower(): value for name, value in self.headers.items()}
        timestamp, signature = head.get("x-sexton-timestamp"), head.get("x-sexton-signature")
        seen = {
            "path": self.path,
            "headers": head,
            "body": body.decode(),
            "at": time.time(),
            "genuine": genuine(os.environ.get("RECEIVER_SECRET", ""), timestamp, signature, body),
            "age": time.time() - int(timestamp) if timestamp else None,
        }
        with LOCK:
            number, COUNT = COUNT, COUNT + 1
            with open(SEEN, "a") as file:
                file.write(json.dumps(seen) + "\n")
        answer = {}
        if os.path.exists(ANSWERS):
            answers = json.load(open(ANSWERS))
            answer = answers[min(number, len(answers) - 1)]
        time.sleep(answer.get("delay", 0))
        text = answer.get("body", "").replace("ECHO", self.path + body.decode()).encode()
        try:
            self.send_response(answer.get("status", 200))
            for name, value in answer.get("headers", {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        except OSError:
            pass  # The other side has given up.

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True


server = Server(("127.0.0.1", PORT), Receiver)
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
