# SPDX-License-Identifier: Apache-2.0
"""A small training run to be killed in every way: shared by kill.py and slurm.py."""
import json
import os
import re
import subprocess
import time

CONFIG = {
    "model": {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 300,
              "max_position_embeddings": 256, "tie_word_embeddings": True,
              "llmctl": {"leaves": {"attention": 2, "mlp": 2, "vocab": 2}}},
    "data": {"train": "packed", "tokenizer": "tok"},
    "unit": {"sequences": 2, "seq_len": 128},
    "batch": {"units": 8},
    "schedule": {"steps": 10, "warmup_steps": 2},
    "checkpoint": {"every": 2, "keep": 3},
}


class Lab:
    def __init__(self, binary, folder):
        self.binary, self.folder = os.path.abspath(binary), folder
        with open(self.path("text.txt"), "w") as out:
            out.writelines(f"the cat {i} sat on mat {i * 7 % 11}\n" for i in range(400))
        self.run("tokenize", "train", "text.txt", "--vocab-size", "300", "--output", "tok", "--quiet")
        self.run("tokenize", "pack", "text.txt", "--tokenizer", "tok", "--output", "packed", "--quiet")
        self.config("train.json")

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def config(self, name, **changes):
        config = json.loads(json.dumps(CONFIG))
        for key, value in changes.items():
            config[key].update(value)
        with open(self.path(name), "w") as out:
            json.dump(config, out)

    def start(self, *words, **kwargs):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("LLMCTL_", "SLURM_")) or k == "SLURM_CONF"}
        return subprocess.Popen([self.binary, *words], cwd=self.folder, env=env, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, **kwargs)

    def run(self, *words, code=0):
        process = self.start(*words)
        out, err = process.communicate(timeout=600)
        assert process.returncode == code, f"{words}: exit {process.returncode}, not {code}\n{out}{err}"
        return out, err

    def train(self, *words, code=0):
        return json.loads(self.run("train", *words, "--json", "--quiet", code=code)[0])

    def metrics(self, run):
        try:
            lines = open(self.path(run, "metrics.jsonl")).read().split("\n")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines[:-1]]

    def digests(self, run):
        return [(m["step"], m["loss"], m["grad_norm"], m["digest"], m["tensors"]) for m in self.metrics(run)]

    def done(self, run):
        """Steps of the newest complete checkpoint, -1 without one."""
        steps = [-1]
        folder = self.path(run, "checkpoints")
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            match = re.fullmatch(r"step-(\d+)", name)
            if match and os.path.exists(os.path.join(folder, name, "DONE")):
                steps.append(int(match[1]))
        return max(steps)


def until(condition, what, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.002)
