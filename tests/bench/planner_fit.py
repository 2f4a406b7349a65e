# SPDX-License-Identifier: Apache-2.0
"""Fits the constants of parallel/step_time.cpp to published training points and judges them on models left out.

    python3 tests/bench/planner_fit.py [../shared/data/plan/training_points.csv] [--rows] [--write FILE]

The cost model below is that of parallel/step_time.cpp, which states what each part means; tests/parallel runs the
C++ one over the same rows. Fitted: the mean absolute error of the logarithm of the step's time over the dense bf16
rows of A100 and H100, by Levenberg-Marquardt with weights that make it a mean of absolute values. Judged: every model
(layers and width) in turn left out of the fit with all its rows, from every source.
"""
import argparse
import json
import math
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import planner_rows  # noqa: E402

# bf16 dense peak and memory, NVLink per direction, network per GPU; all per second.
MACHINES = {"A100": dict(peak=312e12, memory=2.039e12, link=300e9, net=25e9, node=8),
            "H100": dict(peak=989e12, memory=3.35e12, link=450e9, net=50e9, node=8)}
START = dict(gemm_A100=0.8, gemm_H100=0.75, gemm_traffic=3.0, attention_A100=0.5, attention_H100=0.35, recent=1.5,
             pointwise=60.0, nodes=0.01, old=0.85, tuned=1.1, tensor_hidden=0.5, slow_gather=0.1)
# Not fitted. Of the links' rates a collective reaches this much; unfused attention writes and reads its scores and
# probabilities in 2 bytes: product 2, softmax 4, dropout 5, product 2.
LINK, SCORES = 0.7, 13.0


def gemm_seconds(m, n, k, machine, peak_share, traffic):
    return 2 * m * n * k / (machine["peak"] * peak_share) + traffic * 2 * (m * n + n * k + m * k) / machine["memory"]


def block_parts(c, m, p):
    """One block of one micro-batch: seconds of forward products, of attention, of what streams, bytes over tp."""
    tokens = c["mbs"] * c["seq"] / c["cp"]
    tp, h = c["tp"], c["hidden"]
    share, traffic = p["gemm_" + c["gpu"]], p["gemm_traffic"]

    def gemm(n, k, times=1, rows=tokens):
        return times * gemm_seconds(rows, n, k, m, share, traffic)

    products = gemm((c["attention"] + 2 * c["kv"]) / tp, h) + gemm(h, c["attention"] / tp)
    if c["experts"]:
        count, chosen, width = c["experts"]
        local = count / c["ep"]
        rows = tokens * c["ep"] * chosen / count  # of each expert here, from the ranks that share it
        products += local * (gemm(width / tp, h, 1 + c["gated"], rows) + gemm(h, width / tp, 1, rows))
    else:
        products += gemm(c["ffn"] / tp, h, 1 + c["gated"]) + gemm(h, c["ffn"] / tp)
    width, heads = c["attention"] / tp, c["heads"] / tp
    if c["fused"]:
        reached = p["attention_" + c["gpu"]] * (p["recent"] if c["recent"] else 1)
        attention = 2 * tokens * c["seq"] * width / (m["peak"] * reached)
    else:  # scores are written and read, and nothing is halved
        attention = 4 * tokens * c["seq"] * width / (m["peak"] * share) + \
            SCORES * tokens * c["seq"] * heads / m["memory"]
    shared = 1 / tp if c["sp"] else 0.5 + 0.5 / tp
    pointwise = p["pointwise"] * tokens * h * shared / m["memory"]
    return products, attention, pointwise, tokens * h * 2


def step_parts(c, p):
    """Seconds of a step by what they are spent on."""
    m = MACHINES[c["gpu"]]
    products, attention, pointwise, unit_bytes = block_parts(c, m, p)
    layers, units, tp, dp = c["layers"] / c["pp"], c["units"], c["tp"], c["dp"]
    tokens = c["mbs"] * c["seq"] / c["cp"]
    full = c["recompute"] == "full"
    passes = 4 if full else 3
    again = 1 if c["recompute"] == "selective" and not c["fused"] else 0
    block = passes * products + (passes + again) * attention + passes * pointwise
    head = 3 * gemm_seconds(tokens, c["vocab"] / tp, c["hidden"], m, p["gemm_" + c["gpu"]], p["gemm_traffic"])
    compute = layers * block + head / c["pp"]
    # Tensor parallel: two exchanges a block and pass, sum there and spread back.
    tensor = layers * (2 * (3 if full else 2)) * 2 * (tp - 1) / tp * unit_bytes / rate_of(m, tp, 1)
    tensor *= 1 - p["tensor_hidden"] if c["overlap"] else 1
    # Context parallel: keys and values pass around forward, they and their gradients backward, beside attention.
    context = layers * 3 * 2 * 2 * c["kv"] / tp * tokens * (c["cp"] - 1) / rate_of(m, c["cp"], tp)
    context = max(0.0, context - layers * passes * attention)
    exchange = 0.0
    if c["experts"] and c["ep"] > 1:
        exchange = layers * 2 * (3 if full else 2) * c["experts"][1] * unit_bytes / tp * (c["ep"] - 1) / c["ep"] \
            / rate_of(m, c["ep"], 1)
    unit = compute + tensor + context + exchange
    # Pipeline: sends of each chunk, both ways; the bubble in units of a chunk.
    send = 2 * c["chunks"] * unit_bytes / tp / (m["net"] * LINK) if c["pp"] > 1 else 0.0
    bubble = (c["pp"] - 1) / c["chunks"] * (unit + send) if c["pp"] > 1 else 0.0
    # Data parallel: gradients and new weights once a step, or (ZeRO 3) weights twice and gradients once a unit.
    weights = dense_weights(c) / (tp * c["pp"])
    ranks = dp * c["cp"]
    rate = rate_of(m, ranks, tp) * (p["slow_gather"] if c["slow_gather"] else 1)
    wire = (3 * units if c["zero"] == 3 else 2 if c["overlap"] else 3) * 2 * weights * (ranks - 1) / ranks / rate
    busy = unit * units
    cover = 0 if not c["overlap"] else busy if c["zero"] == 3 else busy / units
    data = max(0.0, wire - cover) if not c["slow_gather"] else max(0.0, wire - busy)
    optimizer = 30 * weights / (dp if c["zero"] else 1) / m["memory"]
    nodes = max(1.0, c["gpus"] / m["node"])
    parts = dict(compute=compute * units, tensor=tensor * units, context=context * units, experts=exchange * units,
                 pipeline=send * units, bubble=bubble, data=data, optimizer=optimizer)
    slow = (1 + p["nodes"] * math.log2(nodes)) / stack_speed(c, p)
    return {k: v * slow for k, v in parts.items()}


def rate_of(m, ranks, inner):
    """Bytes per second into one rank of a group, of which `inner` neighbours belong to other groups: inside a node its
    link; across nodes the network of all its ranks in a node together."""
    if ranks * inner <= m["node"]:
        return m["link"] * LINK
    here = max(1, m["node"] // inner)
    return min(m["link"], m["net"] * here) * LINK


def stack_speed(c, p):
    return p[c["stack"]] if c["stack"] else 1.0


def dense_weights(c):
    mlp = (3 if c["gated"] else 2) * c["hidden"] * (c["experts"][0] * c["experts"][2] / c["ep"] if c["experts"] else c["ffn"])
    return c["layers"] * (2 * c["hidden"] * (c["attention"] + c["kv"]) + mlp) + 2 * c["hidden"] * c["vocab"]


def residual(c, p):
    return math.log(sum(step_parts(c, p).values()) / c["seconds"])


def solve(a, b):
    """Gauss with pivots."""
    n = len(b)
    a = [row[:] + [b[i]] for i, row in enumerate(a)]
    for i in range(n):
        j = max(range(i, n), key=lambda r: abs(a[r][i]))
        a[i], a[j] = a[j], a[i]
        for r in range(i + 1, n):
            f = a[r][i] / a[i][i]
            for k in range(i, n + 1):
                a[r][k] -= f * a[i][k]
    x = [0.0] * n
    for i in reversed(range(n)):
        x[i] = (a[i][n] - sum(a[i][k] * x[k] for k in range(i + 1, n))) / a[i][i]
    return x


def weighted_loss(rows, p):
    return sum(c.get("weight", 1) * abs(residual(c, p)) for c in rows)


def fit(rows, start, rounds=40):
    """Levenberg-Marquardt in the constants' logarithms, each row weighted by 1 / |error|; a weak pull to the start
    keeps constants that the rows left do not show."""
    names, p, damping = list(start), dict(start), 1e-2
    best = weighted_loss(rows, p) + pull(p, START)
    for _ in range(rounds):
        r = [residual(c, p) for c in rows]
        w = [c.get("weight", 1) / max(abs(x), 0.02) for c, x in zip(rows, r)]
        jac = []
        for name in names:
            q = dict(p)
            q[name] *= 1.001
            jac.append([(residual(c, q) - x) / math.log(1.001) for c, x in zip(rows, r)])
        n = len(names)
        a = [[sum(w[t] * jac[i][t] * jac[j][t] for t in range(len(rows))) for j in range(n)] for i in range(n)]
        b = [-sum(w[t] * jac[i][t] * r[t] for t in range(len(rows))) for i in range(n)]
        for i, name in enumerate(names):
            a[i][i] += PULL
            b[i] -= PULL * math.log(p[name] / START[name])
        for _ in range(8):
            step = solve([[a[i][j] + (damping * a[i][i] + 1e-9 if i == j else 0) for j in range(n)] for i in range(n)], b)
            q = {name: p[name] * math.exp(max(-0.7, min(0.7, s))) for name, s in zip(names, step)}
            loss = weighted_loss(rows, q) + pull(q, START)
            if loss < best:
                gain, best, p, damping = best - loss, loss, q, damping / 3
                break
            damping *= 4
        else:
            return p
        if gain < 1e-5 * best:
            return p
    return p


PULL = 0.5


def pull(p, start):
    return 0.5 * PULL * sum(math.log(p[k] / start[k]) ** 2 for k in p)


def error(c, p):
    """Relative error of the step's time."""
    return abs(math.exp(residual(c, p)) - 1)


def mean(xs):
    xs = list(xs)
    return sum(xs) / len(xs) if xs else float("nan")


def model_key(c):
    return c["layers"], c["hidden"]


def leave_out(rows):
    """{line: error with the row's model left out of the fit}, each fit from the start."""
    out = {}
    for key in sorted({model_key(c) for c in rows}):
        p = fit([c for c in rows if model_key(c) != key], START)
        out.update({c["line"]: math.exp(residual(c, p)) - 1 for c in rows if model_key(c) == key})
    return out


def look_up(rows, left_out):
    """What the median share of the peak of the same GPU and source would score; left out: of other models only, and of
    the GPU's rows where a source has no other model."""
    def share(c):
        return planner_rows.model_flops(c) / (c["seconds"] * c["gpus"] * c["peak"] * 1e12)

    def guess(c):
        others = [d for d in rows if d["gpu"] == c["gpu"] and not (left_out and model_key(d) == model_key(c))]
        same = [d for d in others if d["source"] == c["source"]] or others
        return sorted(share(d) for d in same)[len(same) // 2]
    return mean(abs(share(c) / guess(c) - 1) for c in rows)


def report(rows, moe, out, p, every):
    def line(name, chosen):
        if chosen:
            print(f"{name:<34} {len(chosen):>4} {100 * mean(error(c, p) for c in chosen):>8.1f} "
                  f"{100 * mean(abs(out[c['line']]) for c in chosen):>9.1f}")
    print(f"{'mean absolute error, per cent':<34} {'rows':>4} {'fitted':>8} {'left out':>9}")
    line("all dense", rows)
    line("  without scaling series", [c for c in rows if not c["series"]])
    line("  scaling series", [c for c in rows if c["series"]])
    for gpu in ("A100", "H100"):
        line("  " + gpu, [c for c in rows if c["gpu"] == gpu])
    sources = sorted({c["source"] for c in rows})
    each = [[c for c in rows if c["source"] == source] for source in sources]
    print(f"{'  mean over sources':<34} {len(sources):>4} {100 * mean(mean(error(c, p) for c in s) for s in each):>8.1f} "
          f"{100 * mean(mean(abs(out[c['line']]) for c in s) for s in each):>9.1f}")
    for source in sources:
        line("  " + source[:32], [c for c in rows if c["source"] == source])
    print(f"{'look-up: median per GPU and source':<34} {len(rows):>4} {100 * look_up(rows, False):>8.1f} "
          f"{100 * look_up(rows, True):>9.1f}")
    if moe:
        print(f"{'mixture of experts (not fitted)':<34} {len(moe):>4} {100 * mean(error(c, p) for c in moe):>8.1f}")
    print("\nconstants")
    for k, v in p.items():
        print(f"  {k:<16} {v:.4g}")
    if every:
        for c in rows + moe:
            parts = step_parts(c, p)
            total = sum(parts.values())
            e = out.get(c["line"], math.exp(residual(c, p)) - 1)
            shares = " ".join(f"{k} {100 * v / total:.0f}" for k, v in parts.items() if v > 0.01 * total)
            print(f"{c['line']:>4} {c['source'][:14]:<14} {c['model'][:20]:<20} {c['gpu']} x{c['gpus']:<5} seq {c['seq']:<6} "
                  f"{c['seconds']:>8.3f} s {100 * (math.exp(residual(c, p)) - 1):>+6.1f} {100 * e:>+6.1f}  {shares}")


FIELDS = ("line", "kind", "model", "gpu", "layers", "hidden", "attention", "kv", "heads", "ffn", "gated", "vocab",
          "experts", "seq", "mbs", "units", "tp", "pp", "cp", "ep", "dp", "chunks", "zero", "recompute", "fused", "recent",
          "overlap", "sp", "slow_gather", "stack", "series", "seconds")


def write_points(path, rows, p):
    with open(path, "w", encoding="ascii") as file:
        file.write("[\n" + ",\n".join(json.dumps({**{k: c[k] for k in FIELDS}, "source": c["source"],
                                                "predicted": sum(step_parts(c, p).values())}) for c in rows) + "\n]\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("points", nargs="?", default="../shared/data/plan/training_points.csv")
    parser.add_argument("--rows", action="store_true", help="print every row")
    parser.add_argument("--write", help="the rows as inputs, with what this model says, for tests/parallel")
    parser.add_argument("--quick", action="store_true", help="fit only")
    args = parser.parse_args()
    rows, _ = planner_rows.load(args.points)
    dense = [c for c in rows if c["kind"] == "dense"]
    p = fit(dense, START)
    out = {c["line"]: error(c, p) for c in dense} if args.quick else leave_out(dense)
    if args.write:
        write_points(args.write, rows, p)
    report(dense, [c for c in rows if c["kind"] == "moe"], out, p, args.rows)


if __name__ == "__main__":
    main()
