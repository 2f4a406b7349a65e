# SPDX-License-Identifier: Apache-2.0
"""One table of digests: layouts.py LLMCTL [STEPS]. A dense model and one with experts on every layout, over threads and
over MPI, must come to the weights of one worker."""
import json
import os
import subprocess
import sys
import tempfile
import time

from lab import Lab

LEAVES = {"leaves": {"attention": 4, "mlp": 4, "vocab": 4, "experts": 4}}
DENSE = {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4,
         "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32, "vocab_size": 300, "max_position_embeddings": 64,
         "tie_word_embeddings": True, "llmctl": LEAVES}
EXPERTS = {**DENSE, "architectures": ["MixtralForCausalLM"], "intermediate_size": 128, "num_local_experts": 8,
           "num_experts_per_tok": 2, "tie_word_embeddings": False}
SCHEDULES = ("1f1b", "gpipe", "zero_bubble")
# (name, ranks, flags)
LAYOUTS = [(f"dp {n}", n, {}) for n in (2, 3, 4, 8)]
LAYOUTS += [(f"dp 3, zero {z}", 3, {"zero": z}) for z in (0, 1, 2, 3)]
LAYOUTS += [(f"tp {n}", n, {"tp": n}) for n in (2, 4)]
LAYOUTS += [(f"pp {n}, {kind}", n, {"pp": n, "schedule": kind}) for n in (2, 4) for kind in SCHEDULES]
LAYOUTS += [("pp 2, interleaved", 2, {"pp": 2, "schedule": "interleaved", "virtual_stages": 2})]
LAYOUTS += [(f"cp {n}", n, {"cp": n}) for n in (2, 4)]
LAYOUTS += [("dp 2 x tp 2 x pp 2", 8, {"tp": 2, "pp": 2}), ("dp 2 x cp 2 x tp 2", 8, {"cp": 2, "tp": 2})]
LAYOUTS += [(f"{name}, zero {z}", n, {**flags, "zero": z}) for z in (2, 3)
            for name, n, flags in (("tp 2", 2, {"tp": 2}), ("pp 2", 2, {"pp": 2}), ("dp 2 x tp 2 x pp 2", 8, {"tp": 2, "pp": 2}))]
EXPERT_LAYOUTS = [(f"ep {n}", n, {"ep": n}) for n in (2, 4)]
EXPERT_LAYOUTS += [("dp 2 x ep 2", 4, {"ep": 2}), ("ep 2 x pp 2", 4, {"ep": 2, "pp": 2}), ("ep 2 x tp 2", 4, {"ep": 2, "tp": 2})]
EXPERT_LAYOUTS += [(f"{name}, zero {z}", n, {"ep": 2, "zero": z}) for z in (2, 3) for name, n in (("ep 2", 2), ("dp 2 x ep 2", 4))]


def digest(lab, engine, ranks, words):
    if engine == "threads":
        return lab.train(*words, "--ranks", str(ranks))["digest"]
    env = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(["mpirun", "--oversubscribe", "-n", str(ranks), lab.binary, "train", *words, "--threads", "1", "--json",
                           "--quiet"], cwd=lab.folder, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["digest"]


def main(binary, steps):
    unequal = 0
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(binary, folder)
        for name, model, layouts in (("dense", DENSE, LAYOUTS), ("experts", EXPERTS, LAYOUTS + EXPERT_LAYOUTS)):
            config = {"model": model, "data": {"train": "packed", "tokenizer": "tok"},
                      "unit": {"sequences": 2, "seq_len": 32, "chunks": 4}, "batch": {"units": 8},
                      "schedule": {"steps": steps, "warmup_steps": 2}}
            with open(lab.path(f"{name}.json"), "w") as out:
                json.dump(config, out)
            wanted = lab.train(f"{name}.json", "--run", f"{name}-one", "--ranks", "1")["digest"]
            print(f"{name:<8} {'one worker':<22} {wanted}")
            for engine in ("threads", "mpi"):
                for layout, ranks, flags in layouts:
                    words = [f"{name}.json", "--run", f"{name}-{engine}-{layout}"]
                    for key, value in flags.items():
                        words += ["--set", f"parallel.{key}={value}"]
                    start = time.monotonic()
                    try:
                        got = digest(lab, engine, ranks, words)
                    except AssertionError as error:
                        got = str(error).strip().splitlines()[-1]
                    unequal += got != wanted
                    print(f"{name:<8} {layout:<22} {engine:<8} {got if got != wanted else 'equal':<8} {time.monotonic() - start:5.1f} s",
                          flush=True)
    print(f"{unequal} unequal")
    return unequal > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20))
