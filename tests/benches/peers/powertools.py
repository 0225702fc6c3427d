"""Measures a debit that AWS Lambda Powertools makes idempotent, and prints it as one JSON object.

    python powertools.py ENDPOINT TABLE WORK_DIR

Runs under a Python that has requirements.txt. The handler (powertools_app.py) is in processes of AWS's own runtime
client, which take their invocations from a stand-in of Lambda's Runtime API here, one at a time as on Lambda. TABLE has
the keys `pk` and `sk`, and gets items under `peers#` that stay in it.
"""

import importlib.metadata
import json
import math
import os
import queue
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import boto3

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE = 30
ARN = "arn:aws:lambda:eu-central-1:000000000000:function:peers"
# A run finds nothing of an earlier one in the table.
RUN = uuid.uuid4().hex[:8]
AWS = {
    "AWS_ACCESS_KEY_ID": "peers",
    "AWS_SECRET_ACCESS_KEY": "peers",
    "AWS_REGION": "eu-central-1",
    "AWS_DEFAULT_REGION": "eu-central-1",
}


class RuntimeApi(ThreadingHTTPServer):
    """The invocations that wait, and those that are being worked on."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Conversation)
        self.waiting, self.asked, self.answers = queue.Queue(), queue.Queue(), {}
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def invoke(self, event):
        """Puts an invocation in line, and gives what will be its answer."""
        name, answer = str(uuid.uuid4()), Future()
        self.answers[name] = answer
        self.waiting.put((name, event))
        return answer

    def handle_error(self, *request):
        # A worker that has been killed isn't one.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*request)


class Conversation(BaseHTTPRequestHandler):
    """What one worker asks."""

    protocol_version = "HTTP/1.1"
    # Headers and body go out one after the other: Nagle would hold the body back for the worker's acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self):
        self.server.asked.put(time.perf_counter())
        invocation = self.server.waiting.get()
        if invocation is None:
            self.close_connection = True
            return
        name, event = invocation
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", name)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + PATIENCE) * 1000)))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", ARN)
        self.end_body(json.dumps(event).encode())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        *_, name, what = self.path.split("/")
        self.send_response(202)
        self.end_body(b"")
        if what == "response":
            self.server.answers.pop(name).set_result(body)
        elif name in self.server.answers:
            self.server.answers.pop(name).set_result({"error": body["errorType"]})

    def end_body(self, body):
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Workers:
    """Processes of the handler, and the Runtime API that feeds them."""

    def __init__(self, place, count, **settings):
        self.place, self.count, self.settings = place, count, settings

    def __enter__(self):
        self.api, self.processes = RuntimeApi(), []
        try:
            begun = time.perf_counter()
            for _ in range(self.count):
                self.processes.append(self.start())
            asked = [self.api.asked.get(timeout=PATIENCE) for _ in self.processes]
        except BaseException:
            self.__exit__()
            raise
        self.cold_start = asked[0] - begun
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()
            self.api.waiting.put(None)
        self.api.shutdown()
        self.api.server_close()

    def start(self):
        major, minor, *_ = sys.version_info
        settings = AWS | {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.api.server_port}",
            "AWS_ENDPOINT_URL_DYNAMODB": self.place["endpoint"],
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{major}.{minor}",
            "AWS_LAMBDA_FUNCTION_NAME": "peers",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_LOG_GROUP_NAME": "peers",
            "AWS_LAMBDA_LOG_STREAM_NAME": "peers",
            "LAMBDA_TASK_ROOT": HERE,
            "_HANDLER": "powertools_app.handler",
            "PYTHONPATH": HERE,
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": self.place["work"],
            "PATH": os.defpath,
            "TABLE": self.place["table"],
        }
        command = [sys.executable, "-m", "awslambdaric", settings["_HANDLER"]]
        with open(f"{self.place['work']}/workers.log", "ab") as log:
            settings |= self.settings
            return subprocess.Popen(command, env=settings, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def invoke(self, *events):
        """Invocations at the same time, and their answers."""
        return [answer.result(PATIENCE) for answer in [self.api.invoke(event) for event in events]]

    def charge(self, *events):
        for answer in self.invoke(*events):
            assert "balance" in answer, answer

    def warm(self, place):
        """Every worker has its connections: what is measured after it is no start."""
        workspace = open_workspace(place, "warm", self.count * 5)
        for _ in range(5):
            self.charge(*[order(workspace, uuid.uuid4()) for _ in range(self.count)])

    def most_memory_mb(self):
        with open(f"/proc/{self.processes[0].pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) / 1024


def order(workspace, key):
    return {"workspace": workspace, "key": str(key), "credits": "1"}


def open_workspace(place, name, credits):
    workspace = f"{RUN}-{name}"
    item = {"pk": {"S": f"peers#balance#{workspace}"}, "sk": {"S": "balance"}, "spendable": {"N": str(credits)}}
    place["client"].put_item(TableName=place["table"], Item=item)
    return workspace


def read(place, pk, sk):
    key = {"pk": {"S": pk}, "sk": {"S": sk}}
    return place["client"].get_item(TableName=place["table"], Key=key, ConsistentRead=True).get("Item")


def measure_starts(place):
    starts = []
    for _ in range(5):
        with Workers(place, 1) as workers:
            starts.append(workers.cold_start * 1000)
    return {"cold_start_ms": round(statistics.median(starts), 1)}


def measure_one_debit(place):
    """What a debit takes in requests and units, by the worker's own SDK."""
    with Workers(place, 1, PEERS_METER="1") as workers:
        workers.warm(place)
        spent = workers.invoke(order(open_workspace(place, "metered", 1), "one"))[0]["spent"]
    return {"requests_per_debit": spent["requests"], "write_units": spent["write_units"]}


def measure_latency(place):
    took = []
    with Workers(place, 1) as workers:
        workers.warm(place)
        workspace = open_workspace(place, "latency", 300)
        for key in range(300):
            begun = time.perf_counter()
            workers.charge(order(workspace, key))
            took.append((time.perf_counter() - begun) * 1000)
        memory = workers.most_memory_mb()
    took.sort()
    p50, p99 = (round(took[math.ceil(len(took) * share) - 1], 2) for share in (0.5, 0.99))
    return {"p50_ms": p50, "p99_ms": p99, "rss_mb": round(memory, 1)}


def measure_throughput(place):
    def spend(workspace):
        for key in range(100):
            workers.charge(order(workspace, key))

    with Workers(place, 4) as workers, ThreadPoolExecutor(4) as callers:
        workers.warm(place)
        workspaces = [open_workspace(place, f"busy-{caller}", 100) for caller in range(4)]
        begun = time.perf_counter()
        list(callers.map(spend, workspaces))
        return {"throughput": round(400 / (time.perf_counter() - begun), 1)}


def measure_race(place, memory_mb):
    """64 callers and one balance, which covers half of what they want; every fifth key is sent twice at once."""
    count = max(1, min(16, int(available_mb() / memory_mb)))
    with Workers(place, count) as workers, ThreadPoolExecutor(64) as callers:
        workers.warm(place)
        workspace = open_workspace(place, "race", 500)
        orders = [[order(workspace, key)] * (2 if key % 5 == 0 else 1) for key in range(1000)]
        answers = list(callers.map(lambda sent: workers.invoke(*sent), orders))
    left = int(read(place, f"peers#balance#{workspace}", "balance")["spendable"]["N"])
    entries = [read(place, f"peers#entry#{workspace}#{key}", "entry") for key in range(1000)]
    return {"workers": count} | judge(answers, entries, left)


def judge(answers, entries, left):
    """Compares what callers were told with what is in the table: `answers` and `entries` are by key."""
    told = [(answer, entry) for both, entry in zip(answers, entries) for answer in both]
    errors = [(answer["error"], entry) for answer, entry in told if "error" in answer]
    refused = sum("refused" in answer for answer, _ in told)
    taken = sum(int(entry["credits"]["N"]) for entry in entries if entry)
    return {
        "overspent": max(0, taken - 500),
        # A second entry of a key replaces its first, and only the balance tells: each is of one credit.
        "double_charged": max(0, 500 - left - sum(entry is not None for entry in entries)),
        "false_refusals": refused + len(errors) if left > 0 else 0,
        "credits_left": left,
        "refused": refused,
        "already_in_progress": sum(error == "IdempotencyAlreadyInProgressError" for error, _ in errors),
        "failed": sum(error != "IdempotencyAlreadyInProgressError" for error, _ in errors),
        "errors_of_charged_keys": sum(entry is not None for _, entry in errors),
    }


def available_mb():
    with open("/proc/meminfo", encoding="ascii") as memory:
        return int(re.search(r"MemAvailable:\s+(\d+) kB", memory.read())[1]) / 1024


def installed(name, found):
    """Collects a distribution and those that it needs."""
    name = re.sub(r"[-_.]+", "-", name).lower()
    if name not in found:
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            # Only for another platform: pip has left it out.
            return
        for needed in found[name].requires or []:
            if "extra ==" not in needed:
                installed(re.match(r"[\w.-]+", needed)[0], found)


def size_mb(*names):
    """What a deployment package holds of them, unzipped: the wheels' files, without the bytecode that pip adds."""
    found = {}
    for name in names:
        installed(name, found)
    files = [file for distribution in found.values() for file in distribution.files if file.suffix != ".pyc"]
    return round(sum(file.locate().stat().st_size for file in files) / 2**20, 2)


def measure(place):
    figures = measure_starts(place)
    figures |= measure_one_debit(place) | measure_latency(place) | measure_throughput(place)
    figures |= measure_race(place, figures["rss_mb"])
    figures["size_mb"] = size_mb("aws-lambda-powertools")
    figures["size_with_boto3_mb"] = size_mb("aws-lambda-powertools", "boto3")
    return figures


def main(endpoint, table, work_dir):
    # So that what is open is closed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.update(AWS)
    os.makedirs(work_dir, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work_dir) as work:
        place = {"endpoint": endpoint, "table": table, "work": work}
        place["client"] = boto3.client("dynamodb", endpoint_url=endpoint)
        try:
            print(json.dumps(measure(place)))
        except Exception:
            with open(f"{work}/workers.log", "a+b") as log:
                log.seek(0)
                sys.stderr.write(log.read().decode(errors="replace")[-4000:])
            raise


if __name__ == "__main__":
    main(*sys.argv[1:])
