"""Measures a debit in PostgreSQL, a function that locks the balance's row, and prints it as one JSON object.

    python3 postgres.py WORK_DIR

The cluster is made in WORK_DIR, and removed at the end; its server listens on a socket there and nowhere else. Its
settings are initdb's: what is committed is on the disk. Where PostgreSQL isn't installed, it prints {"skipped": why}.
"""

import contextlib
import glob
import json
import math
import os
import pwd
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

PROGRAMS = ("initdb", "postgres", "pgbench", "psql")
PATIENCE = 30
PROTOCOL_3 = 196608

SCHEMA = """
CREATE TABLE balance (workspace text PRIMARY KEY, spendable numeric NOT NULL);
CREATE TABLE entry (workspace text, key text, credits numeric NOT NULL, PRIMARY KEY (workspace, key));

CREATE FUNCTION debit(payer text, named text, amount numeric) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    covered boolean;
BEGIN
    -- The lock comes before the look: who has waited for it sees the entry of its twin.
    SELECT spendable >= amount INTO covered FROM balance WHERE workspace = payer FOR UPDATE;
    IF EXISTS (SELECT FROM entry WHERE workspace = payer AND key = named) THEN
        RETURN 'replayed';
    END IF;
    IF covered IS NOT TRUE THEN
        RETURN 'refused';
    END IF;
    UPDATE balance SET spendable = spendable - amount WHERE workspace = payer;
    INSERT INTO entry VALUES (payer, named, amount);
    RETURN 'charged';
END $$;

INSERT INTO balance VALUES ('busy', 1000000000), ('race', 500);
CREATE SEQUENCE turn;
CREATE TABLE answer (turn int PRIMARY KEY, answer text NOT NULL);
"""

# Random, and of so many that none comes twice: a sequence would be work of the server.
SPEND = r"""
\set key random(1, 1000000000000000000)
SELECT debit('busy', (:key)::text, 1);
"""

# 1,200 turns for 1,000 keys: of six turns in a row, the first two are for the same key.
RACE = r"""
SELECT nextval('turn') AS turn \gset
\if :turn <= 1200
\set key 5 * ((:turn - 1) / 6) + greatest(1, (:turn - 1) % 6)
SELECT debit('race', (:key)::text, 1) AS answer \gset
INSERT INTO answer VALUES (:turn, :answer);
\endif
"""

# A key has one entry at most, so only the balance tells; each is of one credit. Who has no answer has failed.
JUDGEMENT = """
WITH ledger AS (SELECT count(*) AS entries, sum(credits) AS taken FROM entry WHERE workspace = 'race'),
    rest AS (SELECT spendable AS credits_left FROM balance WHERE workspace = 'race'),
    told AS (SELECT count(*) FILTER (WHERE answer = 'refused') AS refused, 1200 - count(*) AS failed FROM answer)
SELECT json_build_object(
    'overspent', greatest(0, taken - 500),
    'double_charged', greatest(0, 500 - credits_left - entries),
    'false_refusals', CASE WHEN credits_left > 0 THEN refused + failed ELSE 0 END,
    'credits_left', credits_left, 'refused', refused, 'failed', failed
) FROM ledger, rest, told
"""


class Cluster:
    """A folder of PostgreSQL's, and the programs that work on it."""

    def __init__(self, programs, work):
        self.programs, self.work, self.data = programs, work, f"{work}/data"
        self.prefix = ["setpriv", "--pdeathsig", "INT"]
        if os.getuid() == 0:
            # As root, it refuses to start.
            user = unprivileged()
            os.chown(work, user.pw_uid, user.pw_gid)
            self.prefix += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        self.run(*self.prefix, self.program("initdb"), "-D", self.data, "-U", "peers", "-A", "trust", "-E", "UTF8",
                 "--locale=C", "--no-sync")

    def program(self, name):
        return self.programs[name]

    def run(self, *command, **options):
        done = subprocess.run(command, cwd=self.work, capture_output=True, text=True, check=False, **options)
        if done.returncode:
            raise RuntimeError(f"{command}: {(done.stdout + done.stderr)[-2000:]}")
        return done.stdout

    @contextlib.contextmanager
    def server(self):
        """Returns a server, and the seconds until it accepted a connection."""
        command = [*self.prefix, self.program("postgres"), "-D", self.data, "-k", self.work, "-c", "listen_addresses="]
        with open(f"{self.work}/server.log", "ab") as log:
            begun = time.perf_counter()
            process = subprocess.Popen(command, cwd=self.work, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while not lets_in(f"{self.work}/.s.PGSQL.5432"):
                if process.poll() is not None or time.perf_counter() - begun > PATIENCE:
                    raise RuntimeError("the server doesn't start: " + read(f"{self.work}/server.log")[-2000:])
                time.sleep(0.001)
            yield process, time.perf_counter() - begun
        finally:
            stop(process)

    def client(self, name, *options):
        return [self.program(name), "-h", self.work, "-U", "peers", *options, "postgres"]

    def sql(self, text):
        return self.run(*self.client("psql", "-XqAt", "-v", "ON_ERROR_STOP=1"), input=text)

    def bench(self, script, *options):
        """A command that carries out a script's transactions again and again."""
        path = f"{self.work}/script.sql"
        with open(path, "w", encoding="utf-8") as file:
            file.write(script)
        return self.client("pgbench", "-n", "-M", "prepared", "-f", path, *options)


def unprivileged():
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("there is no user to run PostgreSQL as")


def lets_in(path):
    """Asks as any client does. While a server is starting, it listens, and answers with an error."""
    hello = struct.pack("!i", PROTOCOL_3) + b"user\0peers\0database\0postgres\0\0"
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(PATIENCE)
            asking.connect(path)
            asking.sendall(struct.pack("!i", len(hello) + 4) + hello)
            return asking.recv(1) == b"R"
    except OSError:
        return False


def stop(process):
    """Ends a server at once, and its processes with it."""
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
            return


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def measure_starts(cluster):
    starts = []
    for _ in range(5):
        with cluster.server() as (_, took):
            starts.append(took * 1000)
    return {"cold_start_ms": round(statistics.median(starts), 1)}


def measure_latency(cluster):
    cluster.run(*cluster.bench(SPEND, "-c", "1", "-T", "3", "-l", "--log-prefix=latency"))
    logs = "".join(read(path) for path in glob.glob(f"{glob.escape(cluster.work)}/latency.*"))
    took = sorted(int(line.split()[2]) for line in logs.splitlines())
    p50, p99 = (round(took[math.ceil(len(took) * share) - 1] / 1000, 2) for share in (0.5, 0.99))
    return {"p50_ms": p50, "p99_ms": p99}


def measure_throughput(cluster, server):
    command = cluster.bench(SPEND, "-c", "64", "-j", "2", "-T", "5")
    running = subprocess.Popen(command, cwd=cluster.work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        # While its clients are there: with them, their processes go.
        time.sleep(4)
        memory = memory_mb(server)
        told, _ = running.communicate(timeout=PATIENCE)
    finally:
        running.kill()
        running.wait()
    found = re.search(r"tps = ([\d.]+)", told)
    if running.returncode or not found:
        raise RuntimeError(told)
    return {"throughput": round(float(found[1]), 1)} | memory


def memory_mb(server):
    """What the server and its children hold, and their peaks: these count what is shared once for each of them."""
    held = peaks = 0
    for folder in glob.glob("/proc/[0-9]*"):
        with contextlib.suppress(OSError):
            status = dict(re.findall(r"^(\w+):\s+(\d+)", read(f"{folder}/status"), re.MULTILINE))
            if str(server.pid) in (status["Pid"], status["PPid"]):
                held += int(re.search(r"^Pss:\s+(\d+)", read(f"{folder}/smaps_rollup"), re.MULTILINE)[1])
                peaks += int(status["VmHWM"])
    return {"rss_mb": round(held / 1024, 1), "vmhwm_sum_mb": round(peaks / 1024, 1)}


def measure_race(cluster):
    cluster.run(*cluster.bench(RACE, "-c", "64", "-j", "2", "-t", "19"))
    return json.loads(cluster.sql(JUDGEMENT))


def measure(cluster):
    figures = {"size_mb": None} | measure_starts(cluster)
    with cluster.server() as (server, _):
        cluster.sql(SCHEMA)
        figures |= measure_race(cluster) | measure_latency(cluster)
        return figures | measure_throughput(cluster, server)


def find_programs():
    """Debian's folders first: what it has on the PATH is a wrapper."""
    folders = glob.glob("/usr/lib/postgresql/*/bin")
    folders.sort(key=lambda folder: int(re.sub(r"\D", "", folder) or 0), reverse=True)
    for path in [*folders, os.environ.get("PATH", os.defpath)]:
        found = {name: shutil.which(name, path=path) for name in PROGRAMS}
        if all(found.values()):
            return found
    return None


@contextlib.contextmanager
def lent(folder):
    """A folder in which the server's user may work, for as long as that takes."""
    os.makedirs(folder, exist_ok=True)
    owner = os.stat(folder)
    if os.getuid() == 0:
        os.chown(folder, unprivileged().pw_uid, -1)
    try:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            yield work
    finally:
        os.chown(folder, owner.st_uid, -1)


def main(work_dir):
    programs = find_programs()
    if programs is None:
        print(json.dumps({"skipped": "PostgreSQL is not installed"}))
        return
    # So that what is open is closed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with lent(os.path.abspath(work_dir)) as work:
        print(json.dumps(measure(Cluster(programs, work))))


if __name__ == "__main__":
    main(*sys.argv[1:])
