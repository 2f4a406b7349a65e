# SPDX-License-Identifier: Apache-2.0
"""Weak symbols of the kernels compiled for AVX2 and up. The linker keeps one copy of each weak symbol
for the whole program: were it one of these, a CPU without AVX-512 would meet AVX-512 code. So each
must name its instruction set, by namespace or by tag. DW.ref.__gxx_personality_v0 is the address of
the C++ runtime's function, no code."""
import glob
import os
import re
import subprocess

OWN = re.compile(r"kn::(avx2|avx512|avx512_bf16)::|\(anonymous namespace\)|Isa\)[123]|Cpu<|^DW\.ref\.__gxx_personality_v0$")


def check(build):
    for isa in (1, 2, 3):
        for path in sorted(glob.glob(os.path.join(build, f"CMakeFiles/kernels_{isa}.dir/**/*.o"), recursive=True)):
            listed = subprocess.run(["nm", "-C", "--defined-only", path], capture_output=True, text=True, check=True)
            for line in listed.stdout.splitlines():
                kind, _, symbol = line[17:].partition(" ")
                if kind in "WVu" and not OWN.search(symbol):
                    yield f"{os.path.relpath(path, build)}: weak {symbol} names no instruction set"
