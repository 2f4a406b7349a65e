# SPDX-License-Identifier: Apache-2.0
"""A training step of the 124M shape: PyTorch's ways beside `llmctl bench train`; tokens/s and peak memory.

12 layers, d 768, 12 heads, vocabulary 50,257, tied; GPT-2 blocks (GELU, 4d) or Llama blocks (SwiGLU 2048, RoPE);
forward, backward, AdamW. PyTorch's ways run first, one after another; the best then runs in turns with llmctl.
"""
import contextlib
import json
import sys

import contest

WAYS = ["fp32", "fp32 compiled", "bf16", "bf16 compiled", "bf16 products", "bf16 products compiled"]
MODELS = {"gpt2": "124M-gpt2", "llama": "124M"}  # llmctl's names
LAYERS, HIDDEN, HEADS, VOCAB = 12, 768, 12, 50257


def model_class(torch):
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.llama = kind == "llama"
            norm = (lambda: nn.RMSNorm(HIDDEN)) if self.llama else (lambda: nn.LayerNorm(HIDDEN))
            self.norm1, self.norm2 = norm(), norm()
            linear = lambda i, o: nn.Linear(i, o, bias=not self.llama)
            self.qkv, self.out = linear(HIDDEN, 3 * HIDDEN), linear(HIDDEN, HIDDEN)
            inner = 2048 if self.llama else 4 * HIDDEN
            self.up, self.down = linear(HIDDEN, 2 * inner if self.llama else inner), linear(inner, HIDDEN)

        def forward(self, x, cos, sin):
            b, t, d = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)
            if self.llama:
                turn = lambda y: y * cos + torch.cat((-y[..., y.shape[-1] // 2:], y[..., :y.shape[-1] // 2]), -1) * sin
                q, k = turn(q).to(v.dtype), turn(k).to(v.dtype)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
            h = self.up(self.norm2(x))
            if self.llama:
                gate, up = h.chunk(2, -1)
                return x + self.down(F.silu(gate) * up)
            return x + self.down(F.gelu(h, approximate="tanh"))

    class Model(nn.Module):
        def __init__(self, kind, length):
            super().__init__()
            self.embed = nn.Embedding(VOCAB, HIDDEN)
            nn.init.normal_(self.embed.weight, std=0.02)
            self.position = nn.Embedding(length, HIDDEN) if kind == "gpt2" else None
            self.blocks = nn.ModuleList(Block(kind) for _ in range(LAYERS))
            self.norm = nn.RMSNorm(HIDDEN) if kind == "llama" else nn.LayerNorm(HIDDEN)
            d = HIDDEN // HEADS
            angle = torch.outer(torch.arange(length), 1e4 ** (-torch.arange(0, d, 2) / d)).repeat(1, 2)
            self.register_buffer("cos", angle.cos())
            self.register_buffer("sin", angle.sin())

        def forward(self, ids, targets):
            x = self.embed(ids)
            if self.position is not None:
                x = x + self.position.weight
            for block in self.blocks:
                x = block(x, self.cos, self.sin)
            logits = F.linear(self.norm(x), self.embed.weight)
            return F.cross_entropy(logits.view(-1, VOCAB).float(), targets.reshape(-1))

    return Model


def worker(case):
    torch = contest.need("torch")
    torch.set_num_threads(case["threads"])
    torch.manual_seed(1)
    if "products" in case["way"]:  # fp32 everywhere, but oneDNN may round the operands of products to bf16
        torch.set_float32_matmul_precision("medium")
    model = model_class(torch)(case["block"], case["length"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    run = torch.compile(model) if "compiled" in case["way"] else model
    autocast = case["way"] in ("bf16", "bf16 compiled")
    ids = torch.randint(VOCAB, (case["rows"], case["length"] + 1))
    losses = []

    def step():
        with torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
            loss = run(ids[:, :-1], ids[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())

    step()

    def measure(steps):
        seconds = contest.median_seconds(step, least=0, runs=steps or 3)
        return {"value": case["rows"] * case["length"] / seconds, "rss": contest.peak_rss_mb(), "losses": losses[:3]}

    contest.answer(measure)


def compare(args, block, length, threads):
    case = {"block": block, "length": length, "rows": args.rows}
    first = (block, f"{args.rows} x {length}", threads)
    alone = {}
    for way in args.ways:
        with contest.Worker(threads, way=way, **case) as w:
            alone[way] = w.ask()
        contest.table_row(*first, way, f"{alone[way]['value']:.0f}", alone[way]["rss"], "", "", "")
    if not args.llmctl:
        return
    best = max(alone, key=lambda way: alone[way]["value"])
    ours = ["train", "--model", MODELS[block], "--batch", str(args.rows), "--tokens", str(length)]
    rss = []

    def llmctl():
        row = contest.llmctl_value(args.llmctl, threads, *ours)
        rss.append(row["rss"])
        return row["value"]

    with contest.Worker(threads, way=best, **case) as w:
        values = contest.in_turns(args.rounds, {"torch": lambda: w.ask()["value"], "llmctl": llmctl}, [w])
    ours, ratio = contest.ours_and_ratio(values, "torch")
    contest.table_row(*first, f"in turns: {best}", contest.spread(values["torch"]), alone[best]["rss"], ours, max(rss), ratio)


def main():
    p = contest.parser(__doc__)
    p.add_argument("--rows", type=int, default=4, help="sequences in a step")
    p.add_argument("--lengths", type=int, nargs="+", default=[256, 1024])
    p.add_argument("--blocks", nargs="+", default=["gpt2", "llama"], choices=["gpt2", "llama"])
    p.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    args = contest.parse(p)
    if args.worker:
        return worker(json.loads(args.worker))
    contest.table_head("block", "tokens", "threads", "PyTorch's way", "tokens/s", "peak RSS MB", "llmctl tokens/s",
                      "peak RSS MB", "ratio")
    for block in args.blocks:
        for length in args.lengths:
            for threads in args.threads:
                with contest.row_or_reason(block, f"{args.rows} x {length}", threads):
                    compare(args, block, length, threads)


if __name__ == "__main__":
    sys.exit(main())
