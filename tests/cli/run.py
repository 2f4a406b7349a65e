# SPDX-License-Identifier: Apache-2.0
"""Runs data-file tests of the command line: run.py LLMCTL FILE.test...

A file is a list of commands, each with what must hold after it:

    # a comment
    file notes.json {"a": 1}          writes a file (\\n in the text is a line break)
    env LLMCTL_THREADS=2              for the next command only
    stdin some text                   for the next command only
    $ llmctl version --json | head    run by sh in an empty folder, kept within the file
    exit 0                            the exit status (0 unless said)
    stdout= exact line                once or more: all of stdout, line by line
    stdout~ regex                     somewhere in stdout (multi-line); also stderr=, stderr~
    stdout!~ regex                    nowhere; also stderr!~
    json a.b.0 == 3                   a value inside the JSON object on stdout
    no-file out.json                  must not exist; also: has-file NAME
"""
import json
import os
import re
import subprocess
import sys
import tempfile


class Case:
    def __init__(self, line_number, command, env, stdin):
        self.line_number, self.command, self.env, self.stdin = line_number, command, env, stdin
        self.files, self.exit, self.checks = [], 0, []


def parse(path):
    cases, files, env, stdin = [], [], {}, ""
    for number, line in enumerate(open(path, encoding="utf-8").read().split("\n"), 1):
        word, _, rest = line.partition(" ")
        if not line.strip() or line.startswith("#"):
            continue
        if word == "file":
            name, _, text = rest.partition(" ")
            files.append((name, text.replace("\\n", "\n")))
        elif word == "env":
            name, _, value = rest.partition("=")
            env[name] = value
        elif word == "stdin":
            stdin = rest.replace("\\n", "\n")
        elif word == "$":
            case = Case(number, rest, env, stdin)
            case.files, files, env, stdin = files, [], {}, ""
            cases.append(case)
        elif not cases:
            raise SystemExit(f"{path}:{number}: {word} before the first command")
        elif word == "exit":
            cases[-1].exit = int(rest)
        elif re.fullmatch(r"(stdout|stderr)(=|~|!~)|json|no-file|has-file", word):
            cases[-1].checks.append((number, word, rest))
        else:
            raise SystemExit(f"{path}:{number}: unknown word {word}")
    return cases


def json_value(text, path):
    value = json.loads(text)
    for part in path.split(".") if path else []:
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def complaint(word, rest, streams, folder):
    if word == "json":
        path, _, wanted = rest.partition(" == ")
        try:
            found = json_value(streams["stdout"], path)
        except (ValueError, KeyError, IndexError, TypeError) as e:
            return f"no {path} in stdout: {e!r}"
        return None if found == json.loads(wanted) else f"{path} is {found!r}, not {wanted}"
    if word.endswith("-file"):
        exists = os.path.exists(os.path.join(folder, rest))
        return None if exists == (word == "has-file") else f"{rest} {'exists' if exists else 'is missing'}"
    stream, test = re.fullmatch(r"(\w+)(\W+)", word).groups()
    found = re.search(rest, streams[stream], re.MULTILINE) is not None
    return None if found == (test == "~") else f"{stream}: {'no' if test == '~' else 'a'} match of {rest}"


def run_case(case, binary, folder):
    for name, text in case.files:
        with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
            out.write(text)
    env = {k: v for k, v in os.environ.items() if not k.startswith("LLMCTL_")}
    env.update(case.env)
    env["XDG_CACHE_HOME"] = os.path.join(folder, ".cache")
    env["PATH"] = os.path.dirname(os.path.abspath(binary)) + os.pathsep + env.get("PATH", "")
    done = subprocess.run(["sh", "-c", case.command], cwd=folder, env=env, input=case.stdin.encode(),
                          capture_output=True, timeout=600)
    streams = {"stdout": done.stdout.decode(errors="replace"), "stderr": done.stderr.decode(errors="replace")}
    problems = []
    if done.returncode != case.exit:
        problems.append(f"line {case.line_number}: exit {done.returncode}, not {case.exit}")
    for stream in ("stdout", "stderr"):
        exact = [rest for _, word, rest in case.checks if word == stream + "="]
        if exact and streams[stream] != "".join(line + "\n" for line in exact):
            problems.append(f"line {case.line_number}: {stream} is not {exact}")
    for number, word, rest in case.checks:
        wrong = None if word.endswith("=") else complaint(word, rest, streams, folder)
        if wrong:
            problems.append(f"line {number}: {wrong}")
    if problems:
        problems += [f"  $ {case.command}"]
        problems += [f"  {name}: {text[:2000]}" for name, text in streams.items() if text]
    return problems


def main(binary, paths):
    failed = 0
    for path in paths:
        cases = parse(path)
        with tempfile.TemporaryDirectory() as folder:
            problems = [p for case in cases for p in run_case(case, binary, folder)]
        failed += bool(problems)
        print(f"{os.path.basename(path)}: {len(cases)} commands, {'FAILED' if problems else 'passed'}")
        print("".join(f"  {p}\n" for p in problems), end="")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
