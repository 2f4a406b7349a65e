#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""On Tiny Shakespeare (generated text where it is missing) the loss curves of 500 steps with gradients summed in
64-bit fixed point and in f32. Training is chaotic, so the noise is measured too: the same run with a learning rate
larger by one part in a million."""
import json
import pathlib

import lab
from corpus import write_corpus

STEPS = 500
CONFIG = {"model": {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 160,
                    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320,
                    "max_position_embeddings": 64, "tie_word_embeddings": True},
          "unit": {"sequences": 4, "seq_len": 64}, "batch": {"units": 2},
          "schedule": {"steps": STEPS, "warmup_steps": 20}}


def curve(args, folder, compute, accumulate, learning_rate):
    config = {**CONFIG, "data": {"train": str(folder / "packed")}, "optimizer": {"learning_rate": learning_rate},
              "numerics": {"compute": compute, "accumulate": accumulate}}
    run = folder / f"{compute}-{accumulate}-{learning_rate}"
    lab.run(args.llmctl, "train", lab.write_json(folder / "train.json", config), "--run", run, "--quiet")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def difference(a, b):
    gaps = [abs(x - y) for x, y in zip(a, b)]
    return max(gaps), sum(gaps) / len(gaps)


def compare(figures, args, folder, compute):
    curves = {(accumulate, tilt): curve(args, folder, compute, accumulate, 3e-3 * (1 + tilt))
              for accumulate in ("fixed", "f32") for tilt in (0, 1e-6)}
    figures.equal(f"{compute}: {STEPS} steps each", {len(c) for c in curves.values()}, {STEPS})
    for (accumulate, tilt), c in curves.items():
        print(f"      {compute}, {accumulate}, rate x (1 + {tilt:g}): loss {c[0]:.4f} to {sum(c[-20:]) / 20:.4f}")
    largest, mean = difference(curves["fixed", 0], curves["f32", 0])
    print(f"      {compute}: fixed against f32: max {largest:.3g}, mean {mean:.3g}")
    noise = 0.0
    for accumulate in ("fixed", "f32"):
        tilted = difference(curves[accumulate, 0], curves[accumulate, 1e-6])
        print(f"      {compute}: {accumulate} against its tilted self: max {tilted[0]:.3g}, mean {tilted[1]:.3g}")
        noise = max(noise, tilted[1])
    figures.at_most(f"{compute}: mean difference of fixed and f32, over that of a tilted run", mean / noise, 3)


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
            compare(figures, args, folder, compute)
    figures.finish()


if __name__ == "__main__":
    main()
