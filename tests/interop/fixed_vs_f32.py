#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""On Tiny Shakespeare (generated text where it is missing) the loss curves of 500 steps with gradients summed in
64-bit fixed point and in f32: their difference, beside that of two seeds."""
import json
import pathlib

import lab
from corpus import write_corpus

STEPS = 500
CONFIG = {"model": {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 160,
                    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320,
                    "max_position_embeddings": 64, "tie_word_embeddings": True},
          "unit": {"sequences": 4, "seq_len": 64}, "batch": {"units": 2}, "optimizer": {"learning_rate": 3e-3},
          "schedule": {"steps": STEPS, "warmup_steps": 20}}


def curve(args, folder, data, compute, accumulate, seed):
    config = {**CONFIG, "data": {"train": str(data)}, "seed": seed,
              "numerics": {"compute": compute, "accumulate": accumulate}}
    run = folder / f"{compute}-{accumulate}-{seed}"
    lab.run(args.llmctl, "train", lab.write_json(folder / "train.json", config), "--run", run, "--quiet")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def difference(a, b):
    gaps = [abs(x - y) for x, y in zip(a, b)]
    return max(gaps), sum(gaps) / len(gaps)


def smooth(values, width=20):
    return [sum(values[i:i + width]) / width for i in range(0, len(values) - width + 1, width)]


def compare(figures, args, folder, data, compute):
    fixed, plain = (curve(args, folder, data, compute, accumulate, 1) for accumulate in ("fixed", "f32"))
    other = curve(args, folder, data, compute, "fixed", 2)
    figures.equal(f"{compute}: {STEPS} steps each", [len(fixed), len(plain)], [STEPS, STEPS])
    print(f"      {compute}: loss from {fixed[0]:.4f} to {sum(fixed[-20:]) / 20:.4f} (fixed) and "
          f"{sum(plain[-20:]) / 20:.4f} (f32), means of the last 20")
    largest, mean = difference(fixed, plain)
    seeds_largest, seeds_mean = difference(fixed, other)
    print(f"      {compute}: fixed against f32: max {largest:.3g}, mean {mean:.3g}; "
          f"against another seed: max {seeds_largest:.3g}, mean {seeds_mean:.3g}")
    bias = abs(sum(fixed) - sum(plain)) / STEPS
    figures.at_most(f"{compute}: mean signed difference", bias, 0.005)
    figures.at_most(f"{compute}: mean difference over that of another seed", mean / seeds_mean, 0.25)
    figures.at_most(f"{compute}: largest difference of means of 20", difference(smooth(fixed), smooth(plain))[0], 0.03)


def main():
    args = lab.arguments(__doc__)
    figures = lab.Figures()
    with lab.scratch() as name:
        folder = pathlib.Path(name)
        text = lab.SHARED / "data" / "text" / "tinyshakespeare.txt"
        text = text if text.exists() else write_corpus(folder / "text.txt")
        lab.run(args.llmctl, "tokenize", "train", text, "--vocab-size", "320", "--output", folder / "tok", "--quiet")
        lab.run(args.llmctl, "tokenize", "pack", text, "--tokenizer", folder / "tok", "--output", folder / "packed",
                "--quiet")
        for compute in ("f32", "bf16"):
            compare(figures, args, folder, folder / "packed", compute)
    figures.finish()


if __name__ == "__main__":
    main()
