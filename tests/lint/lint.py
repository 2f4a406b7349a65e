# SPDX-License-Identifier: Apache-2.0
"""The house rules that a machine can check: lint.py [--build DIR]. Prints each breach, exits 1 if any.

arrows   which room may include which, and where each third-party library lives (rooms.py)
sizes    files up to 500 lines, functions up to 100
words    no paths of one machine, no unfinished work, no names that say nothing; ASCII; SPDX line
top      the top level holds what the design lists
weak     (--build) code for one instruction set cannot become everybody's through the linker
"""
import argparse
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import functions  # noqa: E402
import rooms  # noqa: E402
import weak  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOURCE = (".h", ".cpp", ".cu", ".cuh", ".in")
SCRIPT = (".py", ".sh", ".test", ".cmake", "CMakeLists.txt")
FILE_LINES, FUNCTION_LINES = 500, 100
# What may be longer, and why. A path, or path:function.
EXCEPTIONS = {}

TOP = {"CMakeLists.txt", "LICENSE", "README.md", "dev", "docs", *rooms.ROOMS, "tests"}
SELF = "tests/lint/"  # names the words it forbids
WORDS = [
    (r"/(work|root|home|opt/lab)/\w", "a path of one machine"),
    (r"\b(TODO|FIXME|XXX|HACK)\b", "unfinished work"),
    (r"index-url|artifactory|pip\.conf", "a package registry of one machine"),
    (r"std::\w+_distribution|std::shuffle|std::sort_heap", "randomness that differs by library"),
    (r"-ffast-math|-Ofast", "arithmetic whose bits depend on the compiler"),
]
NAMES = re.compile(r"(^|_)(utils?|helpers?|manager|fast|new|v2|misc|common)(_|\.|$)")


def tracked():
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True)
    if listed.returncode == 0:
        names = listed.stdout.splitlines()
    else:  # an unpacked archive
        names = [os.path.relpath(os.path.join(folder, f), ROOT) for folder, _, fs in os.walk(ROOT) for f in fs]
        names = [n for n in names if not n.startswith(("build", "."))]
    return sorted(n for n in names if os.path.isfile(os.path.join(ROOT, n)))


def check_text(name, text):
    lines = text.split("\n")
    first = lines[1] if lines[0].startswith("#!") and len(lines) > 1 else lines[0]
    if "SPDX-License-Identifier: Apache-2.0" not in first:
        yield f"{name}:1: the SPDX line is missing"
    for number, line in enumerate(lines, 1):
        if not line.isascii():
            yield f"{name}:{number}: not ASCII: {line.strip()[:60]}"
        if name.startswith(SELF):
            continue
        for pattern, why in WORDS:
            if re.search(pattern, line):
                yield f"{name}:{number}: {why}: {line.strip()[:80]}"


def check_sizes(name, text):
    lines = text.count("\n")
    if lines > FILE_LINES and name not in EXCEPTIONS:
        yield f"{name}: {lines} lines, the limit is {FILE_LINES}"
    if name.endswith((".h", ".cpp", ".cu", ".cuh")):
        for function, number, length in functions.lengths(text):
            if length > FUNCTION_LINES and f"{name}:{function}" not in EXCEPTIONS:
                yield f"{name}:{number}: {function} has {length} lines, the limit is {FUNCTION_LINES}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", help="build folder, for the symbols of its kernels")
    build = parser.parse_args().build
    found = []
    names = tracked()
    found += [f"{top}: not a top-level name of the design"
              for top in sorted({n.split("/")[0] for n in names}) if top not in TOP and not top.startswith(".")]
    for name in names:
        is_source, is_script = name.endswith(SOURCE), name.endswith(SCRIPT) or name in ("dev", ".ci/run")
        if not (is_source or is_script):
            continue
        if NAMES.search(os.path.basename(name)):
            found.append(f"{name}: the name says nothing")
        with open(os.path.join(ROOT, name), encoding="utf-8", errors="replace") as file:
            text = file.read()
        found += check_text(name, text)
        found += check_sizes(name, text)
        if is_source:
            found += rooms.check_includes(ROOT, name, text)
    if build:
        found += weak.check(build)
    print("\n".join(found) if found else f"lint: {len(names)} files, nothing to say")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
