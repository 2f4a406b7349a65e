# SPDX-License-Identifier: Apache-2.0
"""What the rival scripts share: workers that measure on demand, turns, llmctl's rows, tables.

The lab (once, outside the tree; a compiler is needed, for llama.cpp and for torch.compile):

    python3 -m venv LAB && . LAB/bin/activate
    CMAKE_ARGS="-DGGML_NATIVE=ON -DCMAKE_CXX_FLAGS='-fno-tree-dse -fno-dse'" pip install -r tests/bench/requirements.txt

(GCC 12 takes llama.cpp's AMX tile configuration for a dead store unless told so: the first quantised product crashes.)
Then `LAB/bin/python tests/bench/rivals/{gemm,train,infer}.py --llmctl BUILD/llmctl`. A contender is measured in a
process of its own that stays warm between its turns; all take turns, so that what the machine does falls on all
alike. A turn during which others used more than a tenth of the machine is repeated, three times at most. As root
`nice -n -5` in front keeps neighbours out.
"""
import argparse
import contextlib
import importlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time

# Huge pages, and memory kept: else every large result of PyTorch's is faulted in again, page by page.
ALLOCATOR = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736"
HERTZ = os.sysconf("SC_CLK_TCK")


def need(module):
    """The module, or one line and exit 3."""
    try:
        return importlib.import_module(module)
    except ImportError as e:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {module} is missing ({e}): pip install -r tests/bench/requirements.txt")


def parser(description):
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--llmctl", help="the binary; without it the rivals run alone")
    p.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--worker", help=argparse.SUPPRESS)
    p.add_argument("--bf16-order", default="pair", choices=["pair", "amx32"], help="llmctl's order of bf16 products")
    return p


def parse(p):
    args = p.parse_args()
    if args.llmctl and not shutil.which(args.llmctl):
        p.error(f"--llmctl: there is no program {args.llmctl}")
    global _order
    _order = args.bf16_order
    return args


class Worker:
    """This same script in a process of its own: it answers one request at a time, each one line of JSON."""

    def __init__(self, threads, **case):
        env = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads),
                   THP_MEM_ALLOC_ENABLE="1", GLIBC_TUNABLES=ALLOCATOR)
        self.process = subprocess.Popen([sys.executable, sys.argv[0], "--worker", json.dumps(dict(case, threads=threads))],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)

    def ask(self, request=None):
        line = ""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line:
            raise ChildProcessError(f"a rival's process ended with status {self.process.wait()}")
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def answer(measure):
    """A worker's loop. What libraries print goes to stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(measure(json.loads(line))), file=out, flush=True)


def median_seconds(f, least=0.3, runs=3, warm=1):
    """The median of some runs after those that warm up: at least `runs`, and `least` seconds of them."""
    for _ in range(warm):
        f()
    seconds = []
    while len(seconds) < runs or (sum(seconds) < least and len(seconds) < 1000):
        start = time.perf_counter()
        f()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def peak_rss_mb():
    with open("/proc/self/status") as f:  # rusage would count the parent's, from before exec
        return round(next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024)


_order = "pair"  # llmctl's order of bf16 products, as the command line has it


def llmctl_value(binary, threads, *arguments):
    """The one row that `llmctl bench` gives for these arguments, and its peak memory."""
    arguments = (*arguments, "--bf16-order", _order)
    done = subprocess.run([binary, "bench", *arguments, "--threads", str(threads), "--json"], capture_output=True, text=True)
    if done.returncode:
        raise ChildProcessError(f"llmctl bench {' '.join(arguments)}: {(done.stderr.strip() or 'no word').splitlines()[-1]}")
    answer = json.loads(done.stdout)
    (row,) = answer["rows"]
    return {"value": row["value"], "rss": round(answer["peak_rss_mb"])}


def _busy(workers):
    with open("/proc/stat") as f:
        fields = [int(x) for x in f.readline().split()[1:9]]
    own = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) + sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    for w in workers:
        with open(f"/proc/{w.process.pid}/stat") as f:
            own += sum(int(x) for x in f.read().rsplit(")", 1)[1].split()[11:13]) / HERTZ
    return (sum(fields) - fields[3] - fields[4]) / HERTZ - own


def _outranked():
    """Whether a process that comes before us is running: two teams that spin at barriers on the same cores crawl."""
    mine = os.nice(0)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except OSError:  # it has ended
            continue
        if fields[0] == "R" and int(fields[16]) < mine and int(fields[20]):
            return True
    return False


def wait_turn(most=30):
    """Waits while others outrank us, so many seconds at most."""
    end = time.monotonic() + most
    while _outranked() and time.monotonic() < end:
        time.sleep(0.5)


def in_turns(rounds, contenders, workers=()):
    """{name: [value of each round]} of {name: function that measures once}."""
    values = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            for _ in range(3):
                wait_turn()
                start, before = time.perf_counter(), _busy(workers)
                value = measure()
                if _busy(workers) - before < 0.1 * os.cpu_count() * (time.perf_counter() - start):
                    break
            values[name].append(value)
    return values


@contextlib.contextmanager
def row_or_reason(*case):
    """A contender that fails costs its row, not the run."""
    try:
        yield
    except ChildProcessError as e:
        table_row(*case, f"failed: {e}")


def spread(values):
    middle = statistics.median(values)
    digits = 0 if middle >= 100 else 1
    return f"{middle:.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def ours_and_ratio(values, rival):
    """Cells: llmctl's figure and its share of the rival's; empty when it did not run."""
    if "llmctl" not in values:
        return "", ""
    return spread(values["llmctl"]), f"{statistics.median(values['llmctl']) / statistics.median(values[rival]):.2f}"


def table_head(*names):
    print("| " + " | ".join(names) + " |\n|" + " --- |" * len(names), flush=True)


def table_row(*cells):
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)
