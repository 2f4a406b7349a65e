# SPDX-License-Identifier: Apache-2.0
"""Who may include whom: the table of the design's rooms, as data."""
import os
import re

# The three headers that say what errors, places to run and windows on memory are: every room speaks of them.
WORDS_OF_ALL = {"kernels/error.h", "kernels/exec.h", "kernels/view.h"}
ROOMS = {
    "kernels": set(),
    "core": {"kernels"},
    "data": {"core"},
    "parallel": {"core"},
    "serve": {"core", "data"},
    "safety": {"core", "data"},
    "cmd": {"kernels", "core", "data", "parallel", "serve", "safety"},
}
# Inside a room of folders, lowest first; those of one row do not meet.
ORDER = {
    "core": [{"base"}, {"tensor"}, {"io"}, {"nn"}, {"models"}, {"engine", "train", "quant"}],
    "data": [{"text"}, {"tokenizer"}, {"records"}, {"packed", "web", "quality", "dedup"}, {"pipeline", "samples"}],
}
# header pattern -> folders that may include it (tests may include all).
HOMES = {
    r"CLI/": ["cmd/"],
    r"boost/": ["serve/"],
    r"openssl/": ["serve/"],
    r"sqlite3": ["core/base/"],
    r"nlohmann/|fmt/": ["core/", "data/", "parallel/", "serve/", "safety/", "cmd/"],
    r"zstd\.h": ["core/base/", "data/"],
    r"zlib\.h": ["core/base/"],
    r"xxhash\.h": ["core/base/"],
    r"pcre2": ["data/tokenizer/"],
    r"gumbo": ["data/web/"],
    r"cld2/": ["data/web/"],
    r"utf8proc": ["data/text/"],
    r"yaml-cpp/": ["parallel/"],
    r"cuda|cublas|cooperative_groups|mma\.h|cub/": ["kernels/"],
    r"nccl|mpi\.h": ["parallel/"],
    r"immintrin\.h|x86intrin\.h|cpuid\.h|arm_neon\.h": ["kernels/"],
    r"catch2/": [],
}
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


def level(room, part):
    return next((i for i, row in enumerate(ORDER[room]) if part in row), None)


def room_breach(name, target):
    room, to = name.split("/")[0], target.split("/")[0]
    if room == to and room in ORDER:
        mine, other = name.split("/")[1], target.split("/")[1]
        a, b = level(room, mine), level(room, other)
        if a is None or b is None:
            return f"{room}/{mine if a is None else other} has no place in the order of {room}"
        return None if mine == other or b < a else f"{room}/{mine} may not include {room}/{other}"
    if room == to or to in ROOMS[room] or target in WORDS_OF_ALL:
        return None
    return f"{room} may not include {to}"


def check_includes(root, name, text):
    room = name.split("/")[0]
    for number, line in enumerate(text.split("\n"), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        own, system = match.groups()
        if room not in ROOMS:  # tests see every room
            continue
        if own is None:
            for pattern, homes in HOMES.items():
                if re.match(pattern, system) and not any(name.startswith(home) for home in homes):
                    yield f"{name}:{number}: <{system}> has its home in {', '.join(homes) or 'tests/'}"
            continue
        generated = own in ("kernels/build.h", "cmd/build_id.h")
        if own.split("/")[0] not in ROOMS or not (generated or os.path.isfile(os.path.join(root, own))):
            yield f'{name}:{number}: "{own}" is no file of a room'
            continue
        breach = room_breach(name, own)
        if breach:
            yield f"{name}:{number}: {breach}: {own}"
