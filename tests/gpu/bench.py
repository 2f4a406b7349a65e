#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One table on one GPU: this machine's limits (copy, bf16 GEMM), `llmctl bench --device cuda`, and PyTorch
where python3 has it, all measured in this run. Fails when a bench of ours does.

usage: bench.py build/llmctl [--json FILE] [--seconds N]
"""
import argparse
import json
import statistics
import subprocess
import sys
import time

# What llmctl measures, in the order of the table; what does not fit the time is said to be left out.
SUITES = [["gemm", "--shape", "8192x8192x8192", "--dtype", "bf16"],
          ["gemm", "--shape", "8192x4096x4096", "--dtype", "bf16"],
          ["gemm", "--shape", "1x14336x4096", "--dtype", "bf16"],
          ["attention", "--quick"],
          ["decode", "--model", "1.5B", "--dtype", "bf16", "--tokens", "32"],
          ["prefill", "--model", "1.5B", "--dtype", "bf16", "--tokens", "2048"],
          ["train", "--model", "124M", "--batch", "4", "--tokens", "2048"]]


def torch_limits():
    """[(case, value, unit)] of PyTorch's copy and product on random data, or a reason why not."""
    try:
        import torch
    except ImportError as error:
        return [], f"PyTorch is not here ({error})"
    if not torch.cuda.is_available():
        return [], "PyTorch sees no GPU"

    def seconds(f, times=20):
        for _ in range(3):
            f()
        spans = []
        for _ in range(times):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            f()
            end.record()
            torch.cuda.synchronize()
            spans.append(start.elapsed_time(end) / 1e3)
        return statistics.median(spans)

    rows = []
    a = torch.empty(1 << 30, dtype=torch.float32, device="cuda").normal_()
    b = torch.empty_like(a)
    rows.append(("torch copy of 4 GiB, read and written", 2 * a.numel() * 4 / seconds(lambda: b.copy_(a)) / 1e9, "GB/s"))
    del a, b
    for m, n, k in [(8192, 8192, 8192), (8192, 4096, 4096), (1, 14336, 4096)]:
        x = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
        w = torch.randn(n, k, device="cuda", dtype=torch.bfloat16)
        rows.append((f"torch gemm {m}x{n}x{k} bf16",
                     2 * m * n * k / seconds(lambda: torch.nn.functional.linear(x, w)) / 1e9, "GFLOP/s"))
    return rows, torch.__version__


def ours(llmctl, suite, limit):
    command = [llmctl, "bench", *suite, "--device", "cuda", "--json", "--quiet"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {ran.returncode}: {ran.stderr.strip()[-500:]}")
    return [(r["case"], r["value"], r["unit"], r["limit"]) for r in json.loads(ran.stdout)["rows"]]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("llmctl")
    parser.add_argument("--json")
    parser.add_argument("--seconds", type=float, default=90)
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    limits, note = torch_limits()
    table = [{"case": c, "value": v, "unit": u, "limit": None} for c, v, u in limits]
    left_out = []
    for suite in SUITES:
        left = end - time.monotonic()
        try:
            if left < 5:
                raise subprocess.TimeoutExpired(suite, left)
            table += [{"case": c, "value": v, "unit": u, "limit": l} for c, v, u, l in ours(options.llmctl, suite, left)]
        except subprocess.TimeoutExpired:
            left_out.append(" ".join(suite))
    print(f"{'case':<56} {'value':>12} {'limit':>12} unit")
    for r in table:
        print(f"{r['case']:<56} {r['value']:>12.4g} {r['limit'] or float('nan'):>12.4g} {r['unit']}")
    for suite in left_out:
        print(f"left out, no time: {suite}")
    if options.json:
        with open(options.json, "w") as f:
            json.dump({"pytorch": note, "rows": table, "left_out": left_out}, f, indent=1)
    print(f"note: {len(table)} rows, {len(left_out)} left out, PyTorch {note}")


if __name__ == "__main__":
    sys.exit(main())
