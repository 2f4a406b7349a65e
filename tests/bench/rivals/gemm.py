# SPDX-License-Identifier: Apache-2.0
"""Y = X W^T of real models' shapes: oneDNN and MKL as PyTorch carries them beside `llmctl bench gemm`; GFLOP/s.

fp32, bf16 (bf16 out), int8 (s8 x s8, int32 or bf16 out). Each of PyTorch's ways is tried on each shape - plain, and with
weights packed once where it offers that - and the fastest stands for it.
"""
import json
import statistics
import sys

import contest

# M, N, K.
MODELS = {"124M": {"head": (50304, 768), "qkv": (2304, 768), "up": (3072, 768), "down": (768, 3072)},
          "1.1B": {"head": (32000, 2048), "qkv": (2560, 2048), "up": (11264, 2048), "down": (2048, 5632)},
          "8B": {"head": (128256, 4096), "qkv": (6144, 4096), "up": (28672, 4096), "down": (4096, 14336)}}
ROWS = {"124M": {"head": (1, 16, 128, 1024), "qkv": (8, 512, 1024, 2048), "up": (1, 128, 1024), "down": (16, 1024, 2048)},
        "1.1B": {"head": (1, 8), "qkv": (16, 512, 2048), "up": (1, 128, 512), "down": (8, 128, 2048)},
        "8B": {"head": (1,), "qkv": (16, 512), "up": (8,), "down": (1, 128)}}
SHAPES = [("cube", (2048, 2048, 2048))] + [(f"{model} {part}", (m, n, k)) for model, parts in MODELS.items()
                                           for part, (n, k) in parts.items() for m in ROWS[model].get(part, ())]
DTYPES = ["f32", "bf16", "int8"]


def ways(torch, dtype, m, n, k):
    """{name: function that runs the product}."""
    torch.manual_seed(1)
    if dtype == "int8":
        x, w = (torch.randint(-127, 128, s, dtype=torch.int8) for s in ((m, k), (n, k)))
        packed = torch.ops.onednn.qlinear_prepack(w, [m, k])
        ones, zeros = torch.ones(n), torch.zeros(n, dtype=torch.int64)
        product = torch.ops.onednn.qlinear_pointwise
        return {"_int_mm": lambda: torch._int_mm(x, w.t()),
                "onednn packed": lambda: product(x, 1.0, 0, packed, ones, zeros, None, 1.0, 0, torch.bfloat16, "none", [], "")}
    kind = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
    x, w = (torch.randn(s, dtype=kind) for s in ((m, k), (n, k)))
    packed = torch.ops.mkldnn._reorder_linear_weight(w, m)
    found = {"linear": lambda: torch.nn.functional.linear(x, w),
             "onednn packed": lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")}
    if dtype == "f32":
        mkl = torch.ops.mkl._mkl_reorder_linear_weight(w, m)
        found["mkl packed"] = lambda: torch.ops.mkl._mkl_linear(x, mkl, w, None, m)
    return found


def worker(case):
    torch = contest.need("torch")
    torch.set_num_threads(case["threads"])
    kept = {}

    def measure(request):
        shape = (request["dtype"], *request["shape"])
        if shape not in kept:
            kept.clear()
            kept[shape] = ways(torch, *shape)
        seconds = {}
        for name, product in kept[shape].items():
            try:
                with torch.inference_mode():
                    seconds[name] = contest.median_seconds(product, least=0.1)
            except (RuntimeError, NotImplementedError) as e:
                print(f"{shape} {name}: {str(e).splitlines()[0]}", file=sys.stderr)
        way = min(seconds, key=seconds.get)
        _, m, n, k = shape
        return {"way": way, "value": 2e-9 * m * n * k / seconds[way]}

    contest.answer(measure)


def compare(args, w, threads, name, shape, dtype):
    seen = []

    def torch():
        seen.append(w.ask({"shape": shape, "dtype": dtype}))
        return seen[-1]["value"]

    size = "x".join(map(str, shape))
    contenders = {"torch": torch}
    if args.llmctl:
        ours = ["gemm", "--shape", size, "--dtype", dtype]
        contenders["llmctl"] = lambda: contest.llmctl_value(args.llmctl, threads, *ours)["value"]
    values = contest.in_turns(args.rounds, contenders, [w])
    contest.table_row(name, size, dtype, threads, contest.spread(values["torch"]), statistics.mode(s["way"] for s in seen),
                     *contest.ours_and_ratio(values, "torch"))


def main():
    p = contest.parser(__doc__)
    p.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    p.add_argument("--only", default="", help="shapes whose name or MxNxK holds this")
    args = contest.parse(p)
    if args.worker:
        return worker(json.loads(args.worker))
    contest.table_head("weight", "MxNxK", "dtype", "threads", "PyTorch GFLOP/s", "its way", "llmctl GFLOP/s", "ratio")
    for threads in args.threads:
        with contest.Worker(threads) as w:
            for name, shape in SHAPES:
                for dtype in args.dtypes:
                    if args.only in name or args.only in "x".join(map(str, shape)):
                        with contest.row_or_reason(name, "x".join(map(str, shape)), dtype, threads):
                            compare(args, w, threads, name, shape, dtype)


if __name__ == "__main__":
    sys.exit(main())
