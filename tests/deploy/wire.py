"""A proxy between the functions and the services they call, which can kill the calling process at a chosen request.

It passes requests on unchanged. It finds the process by the connection's port, and kills it with SIGKILL either before
it passes the request on, or after the request was executed and before its response.
"""

import glob
import http.client
import http.server
import os
import signal
import threading
import urllib.parse


def process_behind(port):
    """Returns the process behind a loopback connection, and the name of its function."""
    wanted = f"0100007F:{port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        inode = next((line.split()[9] for line in table if line.split()[1] == wanted), None)
    for entry in glob.glob("/proc/[0-9]*/fd/*") if inode else []:
        try:
            if os.readlink(entry) == f"socket:[{inode}]":
                process = entry.split("/")[2]
                with open(f"/proc/{process}/environ", "rb") as file:
                    environ = dict(line.split(b"=", 1) for line in file.read().split(b"\0") if b"=" in line)
                return int(process), environ.get(b"AWS_LAMBDA_FUNCTION_NAME", b"").decode()
        except OSError:
            continue
    return None, ""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Ignores errors: a killed process no longer reads its response."""


class Wire:
    """A proxy to one address. `plan` maps a function to the number of the request at which it is killed, and when."""

    def __init__(self, port, target):
        self.target = urllib.parse.urlsplit(target)
        self.lock, self.asked, self.plan, self.killed = threading.Lock(), {}, {}, []
        self.carried_out = []
        server = Server(("127.0.0.1", port), self.handler())
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def begin(self, plan):
        """Resets the counts, and kills by this plan from now on."""
        with self.lock:
            self.asked, self.plan, self.killed, self.carried_out = {}, dict(plan), [], []

    def count(self, function):
        """Counts a request. Returns "before" or "after" if the function must die at it, and otherwise ""."""
        with self.lock:
            self.asked[function] = number = self.asked.get(function, 0) + 1
            at, when = self.plan.get(function, (0, ""))
            if number != at:
                return ""
            self.killed.append((function, number, when))
            return when

    def handler(self):
        wire = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                self.process, name = process_behind(self.client_address[1])
                self.function = name.split("-")[-2] if name.count("-") > 1 else name

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                when = wire.count(self.function)
                if when == "before":
                    return self.kill()
                connection = http.client.HTTPConnection(wire.target.netloc, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                connection.putrequest(self.command, wire.target.path + self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body)
                answer = connection.getresponse()
                content = answer.read()
                if answer.status == 200:
                    wire.carried_out.append((self.function, self.path, self.headers.get("X-Amz-Target", ""), body))
                if when == "after":
                    return self.kill()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def kill(self):
                os.kill(self.process, signal.SIGKILL)
                self.close_connection = True

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_):
                pass

        return Handler
