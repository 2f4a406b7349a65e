# SPDX-License-Identifier: Apache-2.0
"""Small transformers models, random batches of packed documents, and their logits in PyTorch."""
import numpy
import torch
import transformers
from safetensors.numpy import save_file

VOCAB = 131


def llama(seed=0, **options):
    torch.manual_seed(seed)
    config = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
                  num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-5, rope_theta=10000.0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**config, **options}, attn_implementation="eager"))


def gpt2(seed=0, **options):
    torch.manual_seed(seed)
    config = dict(vocab_size=VOCAB, n_embd=48, n_layer=2, n_head=3, n_positions=512, resid_pdrop=0.0, embd_pdrop=0.0,
                  attn_pdrop=0.0, bos_token_id=0, eos_token_id=0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**config, **options}, attn_implementation="eager"))


def mixtral(seed=0, **options):
    torch.manual_seed(seed)
    config = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                  num_key_value_heads=2, max_position_embeddings=512, num_local_experts=6, num_experts_per_tok=2,
                  router_aux_loss_coef=0.02, bos_token_id=0, eos_token_id=0)
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(**{**config, **options}, attn_implementation="eager"))


def qwen3(seed=0, **options):
    torch.manual_seed(seed)
    config = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
                  num_key_value_heads=2, head_dim=24, max_position_embeddings=512)
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**{**config, **options}, attn_implementation="eager"))


def qwen3_moe(seed=0, **options):
    torch.manual_seed(seed)
    config = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, moe_intermediate_size=40, num_hidden_layers=3,
                  num_attention_heads=4, num_key_value_heads=2, head_dim=24, max_position_embeddings=512, num_experts=10,
                  num_experts_per_tok=3, norm_topk_prob=True, router_aux_loss_coef=0.05, mlp_only_layers=[1])
    model = transformers.Qwen3MoeForCausalLM(
        transformers.Qwen3MoeConfig(**{**config, **options}, attn_implementation="eager"))
    with torch.no_grad():  # its routers start at zero: every choice would be a tie
        for name, p in model.named_parameters():
            if name.endswith("mlp.gate.weight"):
                p.normal_(0, 0.1)
    return model


def qwen2_moe(seed=0, **options):
    torch.manual_seed(seed)
    config = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, moe_intermediate_size=40, num_hidden_layers=2,
                  num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, num_experts=10,
                  num_experts_per_tok=3, shared_expert_intermediate_size=56, router_aux_loss_coef=0.05)
    model = transformers.Qwen2MoeForCausalLM(
        transformers.Qwen2MoeConfig(**{**config, **options}, attn_implementation="eager"))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("mlp.gate.weight"):
                p.normal_(0, 0.1)
    return model


EXPERT_NAMES = {"qwen2_moe": ("mlp", "gate_proj", "up_proj", "down_proj"),
                "mixtral": ("block_sparse_moe", "w1", "w3", "w2"),
                "qwen3_moe": ("mlp", "gate_proj", "up_proj", "down_proj")}


def file_tensors(model, of=lambda p: p.detach()):
    """of(parameter) under the names of files: transformers 5 keeps a layer's experts in one parameter."""
    block, gate, up, down = EXPERT_NAMES.get(model.config.model_type, ("mlp", "", "", ""))
    tensors = {}
    for name, parameter in model.named_parameters():
        name, value = name.replace(".mlp.", f".{block}."), of(parameter)
        if name.endswith("experts.gate_up_proj"):
            for e, both in enumerate(value):
                base = f"{name.removesuffix('gate_up_proj')}{e}"
                tensors[f"{base}.{gate}.weight"], tensors[f"{base}.{up}.weight"] = both.chunk(2)
        elif name.endswith("experts.down_proj"):
            for e, one in enumerate(value):
                tensors[f"{name.removesuffix('down_proj')}{e}.{down}.weight"] = one
        else:
            tensors[name] = value
    return tensors


def shake(model, seed=1, spread=0.1):
    """Moves every vector off its 0 or 1, so that biases and norm weights matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p += spread * torch.randn(p.shape, generator=generator)
    return model


class Batches:
    """tokens and targets (steps, units, rows, seq) and document starts (steps, units, rows, documents), -1 padded."""

    def __init__(self, steps, units, rows, seq, documents=1, vocab=VOCAB, seed=3):
        random = numpy.random.default_rng(seed)
        shape = (steps, units, rows, seq)
        self.tokens = random.integers(0, vocab, shape).astype(numpy.int32)
        # Half of the tokens follow from the one before: something to learn.
        follows = random.random(shape) < 0.5
        before, after = self.tokens[..., :-1], self.tokens[..., 1:]
        self.tokens[..., 1:] = numpy.where(follows[..., 1:], (before * 3 + 1) % vocab, after)
        self.starts = numpy.full((steps, units, rows, documents), -1, numpy.int32)
        for at in numpy.ndindex(shape[:3]):
            later = numpy.sort(random.choice(numpy.arange(1, seq), documents - 1, replace=False))
            self.starts[at] = numpy.concatenate([[0], later])
        self.targets = numpy.full(shape, -1, numpy.int32)
        self.targets[..., :-1] = self.tokens[..., 1:]
        for at in numpy.ndindex(shape[:3]):  # a document's last token predicts nothing
            self.targets[at][self.starts[at][1:] - 1] = -1

    def save(self, path):
        save_file({"tokens": self.tokens, "targets": self.targets, "starts": self.starts}, path)

    def step(self, step):
        """(rows, seq) tensors of one step: ids, targets, positions in the document, additive mask."""
        ids, targets, starts = (torch.from_numpy(a[step].reshape(-1, a.shape[-1])).long()
                                for a in (self.tokens, self.targets, self.starts))
        seq = ids.shape[1]
        document = torch.zeros_like(ids)
        for row, row_starts in enumerate(starts):
            for start in row_starts[1:]:
                document[row, start:] += 1
        first = torch.gather(starts, 1, document)
        at = torch.arange(seq)
        seen = (document[:, :, None] == document[:, None, :]) & (at[:, None] >= at[None, :])
        mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None]
        return ids, targets, at[None, :] - first, mask


def logits(model, ids, positions, mask):
    return model(input_ids=ids, position_ids=positions, attention_mask=mask.to(model.dtype), use_cache=False).logits


def moe_losses(model, batch, units):
    """(mean token loss, aux loss, both with the coefficient) of a step: transformers' load_balancing_loss_func over
    each unit, whose mean over units weighs a unit by its targets."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func
    token_loss, aux_loss, targets_seen = 0, 0, 0
    for ids, targets, positions, mask in zip(*(tensor.chunk(units) for tensor in batch)):
        out = model.model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False,
                          output_router_logits=True)
        scores = model.lm_head(out.last_hidden_state).flatten(0, 1).float()
        count = int((targets >= 0).sum())
        token_loss += torch.nn.functional.cross_entropy(scores, targets.flatten(), ignore_index=-1, reduction="sum")
        aux_loss += count * load_balancing_loss_func(tuple(out.router_logits), model.config.num_experts,
                                                     model.config.num_experts_per_tok)
        targets_seen += count
    token_loss, aux_loss = token_loss / targets_seen, aux_loss / targets_seen
    return token_loss, aux_loss, token_loss + model.config.router_aux_loss_coef * aux_loss


def loss_of(model, batch):
    ids, targets, positions, mask = batch
    scores = logits(model, ids, positions, mask).flatten(0, 1).float()
    return torch.nn.functional.cross_entropy(scores, targets.flatten(), ignore_index=-1)
