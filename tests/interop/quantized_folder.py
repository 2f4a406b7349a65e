#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Folders of `llmctl quantize`, their weights read by the compressed-tensors package and by transformers.

llmctl multiplies int8 activations (NUMERICS rule 22): PyTorch with the same rounding of each product's input must
give the same logits; transformers, which keeps activations whole, logits close to them."""
import pathlib

import lab

lab.need("torch", "transformers", "safetensors", "compressed_tensors")
import torch
from compressed_tensors.compressors import unpack_from_int32
from safetensors.torch import load_file

import torch_model
import transformers
from transformers_roundtrip import our_logits


def dequantised(tensors, module):
    """float32 weight of a module, as the package stores it: q * scale of its group."""
    scale = tensors[module + ".weight_scale"].float()
    if module + ".weight_packed" in tensors:
        shape = torch.Size(tensors[module + ".weight_shape"].tolist())
        q = unpack_from_int32(tensors[module + ".weight_packed"], 4, shape).float()
    else:
        q = tensors[module + ".weight"].float()
    return q * scale.repeat_interleave(q.shape[1] // scale.shape[1], dim=1)


def reference(model, folder):
    """The original model holding the folder's dequantised weights, and how many there are."""
    tensors = load_file(folder / "model.safetensors")
    modules = [name.removesuffix(".weight_scale") for name in tensors if name.endswith(".weight_scale")]
    state = {m + ".weight": dequantised(tensors, m) for m in modules}
    state |= {n: t for n, t in tensors.items() if n in model.state_dict() and n not in state}
    error = max(((state[m + ".weight"] - model.state_dict()[m + ".weight"]).norm() /
                 model.state_dict()[m + ".weight"].norm()).item() for m in modules)
    model.load_state_dict(state, strict=False)
    return model, len(modules), error


def rounded(x, group):
    """x with every group of its last dimension on the int8 grid of its largest magnitude."""
    groups = x.unflatten(-1, (-1, min(group, x.shape[-1])))
    scale = groups.abs().amax(-1, keepdim=True) / 127
    return (torch.round(groups / scale.clamp_min(1e-30)) * scale).flatten(-2)


def relative(got, expected):
    return ((got - expected).norm() / expected.norm()).item()


def compare(figures, args, folder, options, bits, group, what):
    model = torch_model.shake(torch_model.llama(hidden_size=128, intermediate_size=256, **options))
    source, out = folder / "source", folder / f"out-{what}-{bits}-{group}"
    model.save_pretrained(source)
    lab.run(args.llmctl, "quantize", source, out, "--format", f"int{bits}", "--group-size", group, "--quiet")
    model, modules, error = reference(model, out)
    what = f"{what}, int{bits} in groups of {group}"
    figures.at_most(f"{what}: {modules} weights, worst relative change", error, {8: 0.01, 4: 0.15}[bits])
    batches = torch_model.Batches(1, 1, 2, 64, 3)
    ours, _ = our_logits(args, out, batches, folder)
    ids, _, positions, mask = batches.step(0)
    with torch.no_grad():
        loaded = transformers.AutoModelForCausalLM.from_pretrained(out, attn_implementation="eager",
                                                                   dtype=torch.float32).eval()
        whole = torch_model.logits(loaded, ids, positions, mask)
        figures.at_most(f"{what}: logits of transformers and of the weights by the formula, largest difference",
                        (whole - torch_model.logits(model, ids, positions, mask)).abs().max().item(), 1e-5)
        for name, linear in model.model.named_modules():
            if isinstance(linear, torch.nn.Linear):
                linear.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0], group),))
        same = torch_model.logits(model, ids, positions, mask)
        errors = ((ours - same).norm(dim=-1) / same.norm(dim=-1)).flatten()
        # A sum in another order tips an input over the edge of its int8 step now and then: one token, a step.
        figures.at_most(f"{what}: logits, PyTorch with int8 activations, relative, median token",
                        errors.median().item(), 1e-5)
        figures.at_most(f"{what}: the same, worst token", errors.max().item(), 0.02)
        figures.at_most(f"{what}: logits, transformers with whole activations, relative", relative(ours, whole), 0.03)


def main():
    args = lab.arguments(__doc__)
    torch.set_num_threads(1)
    figures = lab.Figures()
    for what, options in (("tied", {"tie_word_embeddings": True}),
                          ("untied with biases", {"attention_bias": True, "mlp_bias": True})):
        for bits, group in ((8, 128), (4, 32), (4, 128)):
            with lab.scratch() as folder:
                compare(figures, args, pathlib.Path(folder), options, bits, group, what)
    figures.finish()


if __name__ == "__main__":
    main()
