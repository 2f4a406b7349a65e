#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A .cu as C++ for the emulator: kernel<<<grid, block, shared, stream>>>(arguments) becomes
emulated::launch(grid, block, shared, stream, [&] { kernel(arguments); }). Nothing else is changed.

usage: translate.py IN.cu OUT.cpp
"""
import re
import sys

NAME = re.compile(r"[A-Za-z_]\w*(<[^;<>]*(<[^<>]*>[^;<>]*)*>)?$")


def closing(text, at):
    """The index behind the parenthesis that closes the one at `at`."""
    depth = 0
    for i in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i + 1
    raise SystemExit(f"translate.py: no end of the arguments at {text[at:at + 60]!r}")


def translate(text):
    out, at = "", 0
    while (found := text.find("<<<", at)) >= 0:
        name = NAME.search(text, at, found)
        end = text.find(">>>", found)
        if not name or end < 0:
            raise SystemExit(f"translate.py: cannot read the launch at {text[found - 40:found + 60]!r}")
        stop = closing(text, text.index("(", end))
        call = text[name.start():found] + text[end + 3:stop]
        out += text[at:name.start()] + f"::emulated::launch({text[found + 3:end]}, [&] {{ {call}; }})"
        at = stop
    return out + text[at:]


def main():
    source, target = sys.argv[1:]
    with open(source) as f:
        text = translate(f.read())
    with open(target, "w") as f:
        f.write(f'#include "cuda_runtime.h"\n#line 1 "{source}"\n' + text)


if __name__ == "__main__":
    main()
