#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Loss, every gradient and five AdamW steps against PyTorch in fp32, on the same weights and batches of packed
documents, for both architectures."""
import pathlib

import lab

lab.need("torch", "transformers", "safetensors")
import torch
from safetensors import safe_open

import torch_model

STEPS, UNITS, ROWS, SEQ, DOCUMENTS = 5, 2, 2, 48, 3
OPTIMIZER = dict(learning_rate=1e-3, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, clip=1.0)
MODELS = {
    "llama, tied": lambda: torch_model.llama(tie_word_embeddings=True),
    "llama, untied, biases": lambda: torch_model.llama(tie_word_embeddings=False, attention_bias=True, mlp_bias=True),
    "llama, head_dim 24, one kv head": lambda: torch_model.llama(head_dim=24, num_key_value_heads=1),
    "gpt2, tied": torch_model.gpt2,
    "gpt2, untied, n_inner 100": lambda: torch_model.gpt2(tie_word_embeddings=False, n_inner=100),
}


def train(model, batches):
    """(losses, gradients of step 0, norms); the model holds the weights of the end."""
    o = OPTIMIZER
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    adamw = torch.optim.AdamW([{"params": matrices, "weight_decay": o["weight_decay"]},
                               {"params": vectors, "weight_decay": 0.0}],
                              lr=o["learning_rate"], betas=(o["beta1"], o["beta2"]), eps=o["eps"])
    losses, norms, gradients = [], [], {}
    for step in range(STEPS):
        adamw.zero_grad()
        loss = torch_model.loss_of(model, batches.step(step))
        loss.backward()
        if step == 0:
            gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), o["clip"]).item())
        losses.append(loss.item())
        adamw.step()
    return losses, gradients, norms


def relative(got, expected):
    return ((got - expected).norm() / expected.norm().clamp_min(1e-30)).item()


def worst(figures, what, ours, theirs, limit):
    errors = {name: relative(ours[name], tensor) for name, tensor in theirs.items()}
    name = max(errors, key=errors.get)
    figures.at_most(f"{what}, worst of {len(errors)} tensors ({name})", errors[name], limit)


def compare(figures, what, model, args, folder):
    model = torch_model.shake(model)
    model.save_pretrained(folder / "model")
    batches = torch_model.Batches(STEPS, UNITS, ROWS, SEQ, DOCUMENTS)
    batches.save(folder / "batch.safetensors")
    config = {"unit": {"sequences": ROWS, "seq_len": SEQ}, "batch": {"units": UNITS}, "optimizer": OPTIMIZER,
              "schedule": {"kind": "constant", "warmup_steps": 0}, "numerics": {"compute": "f32"}}
    lab.run(args.dump, "train", folder / "model", folder / "batch.safetensors",
            lab.write_json(folder / "config.json", config), folder / "out.safetensors")
    losses, gradients, norms = train(model, batches)
    with safe_open(folder / "out.safetensors", "pt") as out:
        said = {key: [float(x) for x in text.split()] for key, text in out.metadata().items()}
        ours = {name: out.get_tensor(name) for name in out.keys()}
    figures.at_most(f"{what}: loss, relative", abs(said["losses"][0] / losses[0] - 1), 1e-5)
    figures.at_most(f"{what}: losses of {STEPS} steps, relative",
                    max(abs(a / b - 1) for a, b in zip(said["losses"], losses)), 1e-4)
    figures.at_most(f"{what}: gradient norms, relative",
                    max(abs(a / b - 1) for a, b in zip(said["norms"], norms)), 1e-4)
    worst(figures, f"{what}: gradients", {k[5:]: v for k, v in ours.items() if k.startswith("grad.")}, gradients, 1e-4)
    worst(figures, f"{what}: weights after {STEPS} AdamW steps",
          {k[7:]: v for k, v in ours.items() if k.startswith("weight.")},
          {name: p.detach() for name, p in model.named_parameters()}, 1e-4)


def main():
    args = lab.arguments(__doc__)
    torch.set_num_threads(1)
    figures = lab.Figures()
    for what, build in MODELS.items():
        with lab.scratch() as folder:
            compare(figures, what, build(), args, pathlib.Path(folder))
    figures.finish()


if __name__ == "__main__":
    main()
