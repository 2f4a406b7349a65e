# SPDX-License-Identifier: Apache-2.0
"""Every verb and object explains itself: help.py LLMCTL. One line per flag, at least two examples."""
import re
import subprocess
import sys


def section(text, title):
    match = re.search(rf"^{title}:\n((?:  .*\n)+)", text, re.MULTILINE)
    return match.group(1).splitlines() if match else []


def walk(binary, path, problems):
    done = subprocess.run([binary, *path, "--help"], capture_output=True, text=True, timeout=60)
    name = " ".join(["llmctl", *path])
    if done.returncode != 0 or done.stderr:
        problems.append(f"{name} --help: exit {done.returncode}: {done.stderr}")
    flags = [line for line in done.stdout.splitlines() if re.match(r"  (-\w,)?--", line)]
    problems += [f"{name}: no help for {f.strip()}" for f in flags if not re.search(r"  \S", f[3:])]
    objects = [line.split()[0] for title in ("Verbs", "Subcommands") for line in section(done.stdout, title)]
    runs = any("--json" in f for f in flags)
    if runs and path and sum("llmctl " in e for e in section(done.stdout, "Examples")) < 2:
        problems.append(f"{name}: fewer than two examples")
    for each in objects:
        walk(binary, [*path, each], problems)


found = []
walk(sys.argv[1], [], found)
print("\n".join(found) if found else "every verb has its help")
sys.exit(1 if found else 0)
