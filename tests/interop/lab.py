# SPDX-License-Identifier: Apache-2.0
"""What the interop scripts share: the programs under test, runs of them, and figures with limits.

A script exits 0 when every figure is within its limit, 1 when one is not, and 77 (skipped, to
ctest) when the modules of requirements.txt or the data it needs are missing.
"""
import argparse
import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request

SKIPPED = 77
ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"


def skip(why):
    print(f"skipped: {why}")
    sys.exit(SKIPPED)


def need(*modules):
    """Skips without them. Called before they are imported, it also keeps them from the network and from bars."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1",
                      TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false")
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        skip(f"no {', '.join(missing)} (pip install -r tests/interop/requirements.txt)")


def shared(name):
    path = SHARED / name
    if not path.exists():
        skip(f"no ../shared/{name}")
    return path


def arguments(description, *options):
    """--build: the folder with llmctl and tests/interop/interop_dump; further options as (name, default)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--dump", type=pathlib.Path, help="interop_dump, when it is not in the build folder")
    for name, default in options:
        parser.add_argument(name, default=default, type=type(default))
    args = parser.parse_args()
    args.llmctl = args.build / "llmctl"
    args.dump = args.dump or args.build / "tests" / "interop" / "interop_dump"
    return args


class Figures:
    """Prints each figure beside its limit; `finish` exits with the verdict."""

    def __init__(self):
        self.failed = 0

    def at_most(self, what, value, limit):
        self.check(f"{what}: {value:.3g} (at most {limit:g})", value <= limit)

    def at_least(self, what, value, limit):
        self.check(f"{what}: {value:.3g} (at least {limit:g})", value >= limit)

    def equal(self, what, got, expected):
        same = got == expected
        self.check(what if same else f"{what}: {str(got)[:160]} is not {str(expected)[:160]}", same)

    def check(self, line, good):
        self.failed += not good
        print(("ok    " if good else "WRONG ") + line, flush=True)

    def finish(self):
        print("all within limits" if not self.failed else f"{self.failed} figures are not")
        sys.exit(1 if self.failed else 0)


def run(*command):
    """Standard output; the program's own line and exit when it fails."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))[:300]}\nexit {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def run_json(*command):
    return json.loads(run(*command, "--json", "--quiet"))


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1))
    return path


def scratch():
    return tempfile.TemporaryDirectory(prefix="llmctl-interop-")


class Server:
    """`llmctl serve` on a free port for the length of a with block; its url is in `url`."""

    def __init__(self, llmctl, *arguments):
        self.command = [str(a) for a in (llmctl, "serve", *arguments, "--port", "0", "--quiet")]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        found = re.match(r"listening on (http://\S+)", line)
        if not found:
            self.process.wait()
            sys.exit(f"{' '.join(self.command)}: exit {self.process.returncode}, said {line!r}")
        self.url = found.group(1)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def post(self, path, body):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)
