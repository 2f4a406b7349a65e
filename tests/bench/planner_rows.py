# SPDX-License-Identifier: Apache-2.0
"""Published training points as inputs of the cost model: what a row of training_points.csv says, and, where it is
silent, what its source or the model's public config says. Every assumption stands here."""
import csv
import re

# Public configs where a row's layers, hidden and heads do not say all: ffn, KV width, gated MLP, vocabulary, and for
# experts (number, chosen, their width).
MODELS = [
    (r"Llama 3.1 8B", dict(ffn=14336, kv=1024, gated=1, vocab=128256)),
    (r"Llama 3.1 70B", dict(ffn=28672, kv=1024, gated=1, vocab=128256)),
    (r"Llama 3.1 405B", dict(ffn=53248, kv=1024, gated=1, vocab=128256)),
    (r"Llama2-style 13B", dict(ffn=13824, gated=1, vocab=32000)),
    (r"Llama2-style 34B", dict(ffn=22016, kv=1024, gated=1, vocab=32000)),
    (r"Qwen2.5-0.5B", dict(ffn=4864, kv=128, gated=1, vocab=151936)),
    (r"Qwen2.5-1.5B", dict(ffn=8960, kv=256, gated=1, vocab=151936)),
    (r"Qwen2.5-3B", dict(ffn=11008, kv=256, gated=1, vocab=151936)),
    (r"Qwen2.5-7B", dict(ffn=18944, kv=512, gated=1, vocab=152064)),
    (r"Qwen2.5-14B", dict(ffn=13824, kv=1024, gated=1, vocab=152064)),
    (r"Nemotron-4 15B", dict(kv=1024, vocab=256000)),
    (r"Nemotron-4 340B", dict(ffn=73728, kv=1536, vocab=256000)),
    (r"BLOOM|GPT (177|181|182|187|196)B$", dict(vocab=250880)),
    (r"nanochat", dict(vocab=65536)),
    (r"MPT", dict(vocab=50368)),
    (r"GPT-[23] ", dict(vocab=50304)),
    (r"Qwen3-235B", dict(attention=8192, kv=512, gated=1, vocab=151936, experts=(128, 8, 1536))),
    (r"GPT OSS 120B", dict(attention=4096, kv=512, gated=1, vocab=201088, experts=(128, 4, 2880))),
]
# How a source trains: recompute, interleaving and micro-batch where a row is silent; unfused attention; what overlaps.
# `stack` is the
# name of an efficiency constant; what has none is neither old nor tuned by hand.
STACKS = [
    ("Megatron-LM SC21", dict(recompute="full", fused=0, overlap=0, chunks=3, flops="sc21")),
    ("Reducing Activation", dict(recompute="selective", fused=0, overlap=0, chunks=3, sp=1)),
    ("MegaScale", dict(recompute="selective", fused=1, overlap=0, chunks=6, sp=1)),
    ("NVIDIA/Megatron-LM", dict(fused=1, recent=1, overlap=1, chunks=4, sp=1, flops="megatron")),
    ("NVIDIA/dgxc", dict(fused=1, recent=1, overlap=1, sp=1)),
    ("NVIDIA-NeMo", dict(fused=1, recent=1, overlap=1, sp=1)),
    ("yanring", dict(fused=1, recent=1, overlap=1, sp=1, flops="causal")),
    ("The Llama 3", dict(fused=1, recent=1, overlap=1, sp=1, chunks=8, flops="causal")),
    ("bigscience", dict(recompute="full", fused=0, overlap=0, stack="old")),
    ("mosaicml", dict(fused=1, overlap=1, zero=3)),
    ("pytorch", dict(fused=1, recent=1, overlap=1, zero=3, sp=1, recompute="full")),
    ("foundation", dict(fused=1, recent=1, overlap=1, zero=3)),
    ("karpathy/llm.c", dict(fused=1, recent=1, overlap=1, mbs=32, stack="tuned")),
    ("karpathy/nanochat", dict(fused=1, recent=1, overlap=1, mbs=32, stack="tuned")),
    ("IST", dict(fused=1, recent=1, overlap=1, stack="tuned")),
]


def number(text):
    return float(text) if text else None


def tokens_per_second(note, gpus):
    if m := re.search(r"tok/s/gpu ([\d.]+)", note):
        return float(m.group(1)) * gpus
    if m := re.search(r"([\d.]+)K tok/s total", note):
        return float(m.group(1)) * 1000
    return None


def kind(row):
    """dense, moe, or why the row is no dense bf16 row of an A100 or H100."""
    text = row["note"] + row["model"] + row["source"]
    if not re.match("A100|H100", row["gpu_type"]):
        return "another device"
    if re.search(r"fp8|float8|FP8 matmul|^FP8|precision (MX|NV)?FP|MXFP", row["note"], re.I) and \
            not re.search(r"amp_bf16|BF16 matmul|precision BF16|^BF16|^bf16", row["note"]):
        return "fp8"
    if not row["hidden"] or not row["layers"]:
        return "the row states no layers and width"
    if not row["global_batch"] and "tok/s" not in row["note"]:
        return "the row states no batch"
    return "moe" if re.search("Qwen3-|OSS", text) else "dense"


def assume_shape(row, c):
    """Micro-batch, ranks and chunks where the row is silent."""
    note = row["note"]
    if m := re.search(r"(?:mbs|microbatch|local batch|batch) (\d+)(?!/)", note):
        c["mbs"] = int(m.group(1))
    if m := re.search(r"batch (\d+)/GPU", note):
        c["mbs"] = int(m.group(1))
    if m := re.search(r"VPP? (\d+)", note):
        c["chunks"] = int(m.group(1))
    c["tp"], c["cp"], c["ep"] = (int(row[k] or 1) for k in ("tp", "cp", "ep"))
    if "strong scaling" in row["source"]:
        c["pp"] = 6  # as the same model's row in the same table
    else:
        c["pp"] = int(row["pp"] or 1)
    c["dp"] = max(1, c["gpus"] // (c["tp"] * c["pp"] * c["cp"]))
    replica = c["batch"] / c["dp"]
    c.setdefault("mbs", 1 if c["pp"] > 1 else min(4, max(1, int(replica))))
    c["mbs"] = min(c["mbs"], max(1, int(replica)))
    c["units"] = max(1, round(replica / c["mbs"]))
    layers = -(-c["layers"] // c["pp"])
    c["chunks"] = next(v for v in range(min(c.get("chunks", 1), layers), 0, -1) if layers % v == 0) if c["pp"] > 1 else 1


def model_of(row, c):
    """Widths; 4 h wide MLPs and heads of 128 where nothing says otherwise."""
    h = c["hidden"] = int(row["hidden"])
    c["layers"] = int(row["layers"])
    c.update(ffn=4 * h, kv=h, attention=h, gated=0, vocab=131072 if "model_table" in row["source"] + row["note"] or
             "vocab 131072" in row["note"] else 51200, experts=None)
    for pattern, config in MODELS:
        if re.search(pattern, row["model"]):
            c.update(config)
    c["heads"] = int(row["heads"] or h // 128)


def step_seconds(row, c):
    """What was measured, as seconds of a step."""
    tokens = c["batch"] * c["seq"]
    if row["step_s"]:
        return float(row["step_s"])
    if rate := tokens_per_second(row["note"], c["gpus"]):
        return tokens / rate
    h, layers, s, v = c["hidden"], c["layers"], c["seq"], c["vocab"]
    tflops = number(row["tflops_per_gpu"]) or number(row["mfu_pct"]) / 100 * c["peak"]
    if c.get("flops") == "sc21":  # hardware FLOPs with full recompute, attention not halved
        flops = 96 * tokens * layers * h * h * (1 + s / (6 * h) + v / (16 * layers * h))
    elif c.get("flops") == "causal":
        flops = model_flops(c)
    else:
        flops = 72 * tokens * layers * h * h * (1 + s / (6 * h) + v / (12 * layers * h))
    return flops / (c["gpus"] * tflops * 1e12)


def model_flops(c, causal=True):
    """6 per weight and token, and the causal half of attention: 6 L width s."""
    experts = c["experts"]
    mlp = (3 if c["gated"] else 2) * c["hidden"] * (experts[1] * experts[2] if experts else c["ffn"])
    block = 2 * c["hidden"] * (c["attention"] + c["kv"]) + mlp
    attention = (6 if causal else 12) * c["attention"] * c["seq"]
    return c["batch"] * c["seq"] * (c["layers"] * (6 * block + attention) + 6 * c["hidden"] * c["vocab"])


def load(path):
    """(rows, left out): a row is a dict of the cost model's inputs with `seconds`, `kind`, `source`, `model`."""
    rows, left_out = [], []
    for line, row in enumerate(csv.DictReader(open(path, encoding="utf-8")), 2):
        what = kind(row)
        stack = next((dict(s) for name, s in STACKS if row["source"].startswith(name)), None)
        if what not in ("dense", "moe") or stack is None:
            left_out.append((line, row, what if stack else "a source without an entry"))
            continue
        c = dict(recompute="none", zero=1, sp=0, recent=0, stack=None, slow_gather=0, **{k: v for k, v in stack.items() if k not in ("recompute", "zero", "sp", "recent", "stack")})
        c.update({k: stack[k] for k in ("recompute", "zero", "sp", "recent", "stack") if k in stack})
        c.update(line=line, kind=what, source=row["source"], model=row["model"], gpu=row["gpu_type"][:4],
                 gpus=int(row["gpus"]), seq=int(row["seq"] or (4096 if "Llama2" in row["model"] else 8192)))
        c["peak"] = 312 if c["gpu"] == "A100" else 989
        c["batch"] = int(row["global_batch"] or c["gpus"] * c.get("mbs", 32))
        if re.search(r"full activation|full recompute|full AC|act ckpt True", row["note"]):
            c["recompute"] = "full"
        if "FSDP on" in row["note"] or "ZeRO-3" in row["model"]:
            c["zero"] = 3
        c["slow_gather"] = int("ZeRO-3" in row["model"])  # as DeepSpeed was in 2021
        if "SHARD_GRAD_OP" in row["note"]:
            c["zero"] = 2
        if row["model"].endswith("(MegaScale)"):
            c.update(overlap=1, stack="tuned")
        model_of(row, c)
        assume_shape(row, c)
        c["seconds"] = step_seconds(row, c)
        if model_flops(c) > c["seconds"] * c["gpus"] * c["peak"] * 1e12:
            left_out.append((line, row, "more than the GPU's peak"))
            continue
        rows.append(c)
    mark_series(rows)
    return rows, left_out


def mark_series(rows):
    """A scaling series: the same source and model with the same batch, or the same share of a GPU, on several numbers
    of GPUs."""
    for c in rows:
        same = {d["gpus"] for d in rows if d["source"] == c["source"] and d["model"] == c["model"] and
                d["gpu"] == c["gpu"] and d["seq"] == c["seq"] and d["tp"] == c["tp"] and d["pp"] == c["pp"]}
        c["series"] = len(same) > 2 or "strong scaling" in c["source"]
