#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One step of Muon beside AdamW against torch.optim.Muon, on the same fp32 weights and batches.

torch orthogonalises in bf16, we in fp32: its update is compared as it is, with bf16's tolerance, and once
more with its iteration in f64, with fp32's. Small singular values are amplified by hundreds, so bf16
moves a tenth of the change.
"""
import contextlib
import pathlib

import lab

lab.need("torch", "transformers", "safetensors")
import torch
from safetensors import safe_open

import torch_model

if not hasattr(torch.optim, "Muon"):
    lab.skip("this torch has no Muon (2.9 has)")

UNITS, ROWS, SEQ, DOCUMENTS = 2, 2, 48, 3
RATE, MATRIX_RATE, DECAY, CLIP = 1e-3, 5e-3, 0.1, 1.0
CASES = {
    "llama, match_rms_adamw": (lambda: torch_model.llama(tie_word_embeddings=True), "match_rms_adamw"),
    "llama, untied, original": (lambda: torch_model.llama(tie_word_embeddings=False), "original"),
    # transformers holds GPT-2's matrices as (in, out): only the symmetric factor is the same there.
    "gpt2, match_rms_adamw": (torch_model.gpt2, "match_rms_adamw"),
}


@contextlib.contextmanager
def iteration_in(dtype):
    kept, torch.bfloat16 = torch.bfloat16, dtype
    try:
        yield
    finally:
        torch.bfloat16 = kept


def is_hidden(name, parameter):
    return parameter.ndim == 2 and (".layers." in name or ".h." in name)


def step(model, batches, adjust, dtype):
    """The change of every parameter in one step; the model keeps its weights."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    hidden = [p for name, p in model.named_parameters() if is_hidden(name, p)]
    rest = [p for name, p in model.named_parameters() if not is_hidden(name, p)]
    muon = torch.optim.Muon(hidden, lr=MATRIX_RATE, weight_decay=DECAY, momentum=0.95, nesterov=True, ns_steps=5,
                            adjust_lr_fn=adjust)
    adamw = torch.optim.AdamW([{"params": [p for p in rest if p.ndim >= 2], "weight_decay": DECAY},
                               {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0}],
                              lr=RATE, betas=(0.9, 0.95), eps=1e-8)
    model.zero_grad()
    torch_model.loss_of(model, batches.step(0)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    with iteration_in(dtype):
        muon.step()
    adamw.step()
    change = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(before[name])
    return change, before


def compare(figures, what, build, adjust, args, folder):
    model = torch_model.shake(build())
    model.save_pretrained(folder / "model")
    batches = torch_model.Batches(1, UNITS, ROWS, SEQ, DOCUMENTS)
    batches.save(folder / "batch.safetensors")
    optimizer = {"name": "muon", "learning_rate": RATE, "matrix_learning_rate": MATRIX_RATE, "beta1": 0.9,
                 "beta2": 0.95, "eps": 1e-8, "weight_decay": DECAY, "clip": CLIP, "adjust_lr_fn": adjust}
    config = {"unit": {"sequences": ROWS, "seq_len": SEQ}, "batch": {"units": UNITS}, "optimizer": optimizer,
              "schedule": {"kind": "constant", "warmup_steps": 0}, "numerics": {"compute": "f32"}}
    lab.run(args.dump, "train", folder / "model", folder / "batch.safetensors",
            lab.write_json(folder / "config.json", config), folder / "out.safetensors")
    # AdamW's first step is the sign of a gradient, where a zero has none: matrices only.
    for label, dtype, limit in (("f64", torch.float64, 1e-4), ("bf16, torch's own", torch.bfloat16, 0.2)):
        change, before = step(model, batches, adjust, dtype)
        with safe_open(folder / "out.safetensors", "pt") as out:
            ours = {name: out.get_tensor("weight." + name) - before[name] for name in before}
        errors = {name: ((ours[name] - change[name]).norm() / change[name].norm()).item()
                  for name, p in model.named_parameters() if is_hidden(name, p)}
        name = max(errors, key=errors.get)
        figures.at_most(f"{what}: change of {len(errors)} matrices, iteration in {label} ({name})", errors[name], limit)


def main():
    args = lab.arguments(__doc__)
    torch.set_num_threads(1)
    figures = lab.Figures()
    for what, (build, adjust) in CASES.items():
        with lab.scratch() as folder:
            compare(figures, what, build, adjust, args, pathlib.Path(folder))
    figures.finish()


if __name__ == "__main__":
    main()
