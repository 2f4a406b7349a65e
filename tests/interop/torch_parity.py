#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Loss, every gradient and five AdamW steps (20 of mixtures of experts) against PyTorch in fp32, on the same weights
and batches of packed documents, for every architecture."""
import pathlib

import lab

lab.need("torch", "transformers", "safetensors")
import torch
from safetensors import safe_open

import torch_model

UNITS, ROWS, SEQ, DOCUMENTS = 2, 2, 48, 3
OPTIMIZER = dict(learning_rate=1e-3, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, clip=1.0)
MODELS = {
    "llama, tied": lambda: torch_model.llama(tie_word_embeddings=True),
    "llama, untied, biases": lambda: torch_model.llama(tie_word_embeddings=False, attention_bias=True, mlp_bias=True),
    "llama, head_dim 24, one kv head": lambda: torch_model.llama(head_dim=24, num_key_value_heads=1),
    "gpt2, tied": torch_model.gpt2,
    "gpt2, untied, n_inner 100": lambda: torch_model.gpt2(tie_word_embeddings=False, n_inner=100),
    "qwen3, tied": lambda: torch_model.qwen3(tie_word_embeddings=True, attention_bias=True),
    "mixtral": torch_model.mixtral,
    "mixtral, aux loss 0.5, 4 of 5 experts": lambda: torch_model.mixtral(router_aux_loss_coef=0.5, num_local_experts=5,
                                                                         num_experts_per_tok=4),
    "qwen2_moe": torch_model.qwen2_moe,
    "qwen3_moe": torch_model.qwen3_moe,
    "qwen3_moe, not renormalised, every second layer": lambda: torch_model.qwen3_moe(
        norm_topk_prob=False, decoder_sparse_step=2, mlp_only_layers=[], num_hidden_layers=4),
}


def has_experts(model):
    return "router_aux_loss_coef" in model.config.to_dict()


def train(model, batches, steps):
    """(losses, aux losses, gradients of step 0, norms); the model holds the weights of the end."""
    o = OPTIMIZER
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    adamw = torch.optim.AdamW([{"params": matrices, "weight_decay": o["weight_decay"]},
                               {"params": vectors, "weight_decay": 0.0}],
                              lr=o["learning_rate"], betas=(o["beta1"], o["beta2"]), eps=o["eps"])
    losses, aux_losses, norms, gradients = [], [], [], {}
    for step in range(steps):
        adamw.zero_grad()
        if has_experts(model):
            loss, aux, total = torch_model.moe_losses(model, batches.step(step), UNITS)
            aux_losses.append(aux.item())
        else:
            total = loss = torch_model.loss_of(model, batches.step(step))
        total.backward()
        if step == 0:
            gradients = torch_model.file_tensors(model, lambda p: p.grad.clone())
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), o["clip"]).item())
        losses.append(loss.item())
        adamw.step()
    return losses, aux_losses, gradients, norms


def relative(got, expected):
    return ((got - expected).norm() / expected.norm().clamp_min(1e-30)).item()


def worst(figures, what, ours, theirs, limit):
    errors = {name: relative(ours[name], tensor) for name, tensor in theirs.items()}
    name = max(errors, key=errors.get)
    figures.at_most(f"{what}, worst of {len(errors)} tensors ({name})", errors[name], limit)


def compare(figures, what, model, args, folder):
    model = torch_model.shake(model)
    model.save_pretrained(folder / "model")
    steps = 20 if has_experts(model) else 5
    batches = torch_model.Batches(steps, UNITS, ROWS, SEQ, DOCUMENTS)
    batches.save(folder / "batch.safetensors")
    config = {"unit": {"sequences": ROWS, "seq_len": SEQ}, "batch": {"units": UNITS}, "optimizer": OPTIMIZER,
              "schedule": {"kind": "constant", "warmup_steps": 0}, "numerics": {"compute": "f32"}}
    lab.run(args.dump, "train", folder / "model", folder / "batch.safetensors",
            lab.write_json(folder / "config.json", config), folder / "out.safetensors")
    losses, aux_losses, gradients, norms = train(model, batches, steps)
    with safe_open(folder / "out.safetensors", "pt") as out:
        said = {key: [float(x) for x in text.split()] for key, text in out.metadata().items()}
        ours = {name: out.get_tensor(name) for name in out.keys()}
    figures.at_most(f"{what}: loss, relative", abs(said["losses"][0] / losses[0] - 1), 1e-5)
    if aux_losses:
        figures.at_most(f"{what}: aux losses of {steps} steps, relative",
                        max(abs(a / b - 1) for a, b in zip(said["aux_losses"], aux_losses)), 1e-4)
    figures.at_most(f"{what}: losses of {steps} steps, relative",
                    max(abs(a / b - 1) for a, b in zip(said["losses"], losses)), 1e-4)
    figures.at_most(f"{what}: gradient norms, relative",
                    max(abs(a / b - 1) for a, b in zip(said["norms"], norms)), 1e-4)
    worst(figures, f"{what}: gradients", {k[5:]: v for k, v in ours.items() if k.startswith("grad.")}, gradients, 1e-4)
    worst(figures, f"{what}: weights after {steps} AdamW steps",
          {k[7:]: v for k, v in ours.items() if k.startswith("weight.")},
          torch_model.file_tensors(model), 1e-4)


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
