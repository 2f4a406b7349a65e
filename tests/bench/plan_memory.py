# SPDX-License-Identifier: Apache-2.0
"""The planner's memory against what processes hold: plan_memory.py LLMCTL [NAME ...]

Each layout of LAYOUTS trains two steps over as many processes as it has ranks; the most memory that any rank ever held
(ru_maxrss) is set against the plan. Prints a table; exits 1 when a layout is more than 5 % off. A layout is a name and
flags of `model plan`; those that train does not know yet wait in the table.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

MODEL = {"architectures": ["LlamaForCausalLM"], "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 10,
         "num_attention_heads": 6, "vocab_size": 300, "max_position_embeddings": 256}
LEAVES = dict(MODEL, llmctl={"leaves": {"attention": 2, "mlp": 2, "vocab": 2}})
MOE = {"architectures": ["MixtralForCausalLM"], "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4,
       "num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 8, "num_experts_per_tok": 2,
       "vocab_size": 300, "max_position_embeddings": 256}
BESIDE = ("process", "stacks", "validation", "checkpoint buffer", "messages")  # the trainer's memory
# name: (ranks, model, flags of train, flags of model plan)
LAYOUTS = {
    "one": (1, MODEL, {}, []),
    "one-block": (1, MODEL, {"parallel.recompute": "block"}, []),
    "dp2-zero0": (2, MODEL, {"parallel.zero": 0}, ["--dp", "2", "--zero", "0"]),
    "dp2-zero1": (2, MODEL, {"parallel.zero": 1}, ["--dp", "2", "--zero", "1"]),
    "dp2-zero2": (2, MODEL, {"parallel.zero": 2}, ["--dp", "2", "--zero", "2"]),
    "dp2-zero3": (2, MODEL, {"parallel.zero": 3}, ["--dp", "2", "--zero", "3"]),
    "dp4-zero1": (4, MODEL, {"parallel.zero": 1}, ["--dp", "4", "--zero", "1"]),
    "dp4-zero2": (4, MODEL, {"parallel.zero": 2}, ["--dp", "4", "--zero", "2"]),
    "dp4-zero3": (4, MODEL, {"parallel.zero": 3}, ["--dp", "4", "--zero", "3"]),
    "dp3-zero3-uneven": (3, MODEL, {"parallel.zero": 3}, ["--dp", "3", "--zero", "3"]),
    "dp2-zero2-none": (2, MODEL, {"parallel.zero": 2, "parallel.recompute": "none"}, ["--dp", "2", "--zero", "2"]),
    "dp2-zero3-block": (2, MODEL, {"parallel.zero": 3, "parallel.recompute": "block"}, ["--dp", "2", "--zero", "3"]),
    "dp2-zero1-f32": (2, MODEL, {"parallel.zero": 1, "numerics.compute": "f32"}, ["--dp", "2", "--zero", "1"]),
    "dp2-zero2-muon": (2, MODEL, {"parallel.zero": 2, "optimizer.name": "muon"}, ["--dp", "2", "--zero", "2"]),
    "dp2-zero1-experts": (2, MOE, {"parallel.zero": 1}, ["--dp", "2", "--zero", "1"]),
    "dp2-zero3-experts": (2, MOE, {"parallel.zero": 3}, ["--dp", "2", "--zero", "3"]),
    "threads-dp2-zero2": (-2, MODEL, {"parallel.zero": 2}, ["--dp", "2", "--zero", "2"]),
    "tp2": (2, LEAVES, {"parallel.tp": 2}, []),
    "tp2-dp2": (4, LEAVES, {"parallel.tp": 2}, ["--dp", "2", "--zero", "1"]),
    "pp2-1f1b": (2, MODEL, {"parallel.pp": 2}, []),
    "pp2-zero-bubble": (2, MODEL, {"parallel.pp": 2, "parallel.schedule": "zero_bubble"}, []),
    "pp2-interleaved": (2, MODEL, {"parallel.pp": 2, "parallel.schedule": "interleaved", "parallel.virtual_stages": 2}, []),
    "cp2": (2, MODEL, {"parallel.cp": 2, "unit.chunks": 2}, ["--zero", "1"]),
    # Once train takes it:
    "ep2": (0, MOE, {"parallel.ep": 2}, []),
}


def prepare(binary):
    with open("text.txt", "w", encoding="ascii") as file:
        file.writelines(f"the number {i} and the number {i * 7 % 13}\n" for i in range(3000))
    for args in (["tokenize", "train", "text.txt", "--vocab-size", "300", "--output", "tok"],
                 ["tokenize", "pack", "text.txt", "--tokenizer", "tok", "--output", "data"]):
        subprocess.run([binary, *args, "--quiet"], check=True, stdout=subprocess.DEVNULL)


def config(model):
    return {"model": model, "data": {"train": "data"}, "unit": {"sequences": 4, "seq_len": 128}, "batch": {"units": 5},
            "schedule": {"steps": 2, "warmup_steps": 1}, "parallel": {"recompute": "norms"}}


def flags_of(fields):
    return [word for name, value in fields.items() for word in (f"--{name}", str(value))]


def measure(binary, name, ranks, fields, port):
    """The most bytes that a process of the world held."""
    command = [binary, "train", f"{name}.json", "--run", name, "--quiet", "--threads", "1", *flags_of(fields)]
    if ranks < 0 or ranks == 1:
        command += ["--ranks", str(-ranks)] if ranks < 0 else []
        started = [subprocess.Popen(command, stdout=subprocess.DEVNULL)]
    else:
        started = []
        for rank in range(ranks):
            env = dict(os.environ, RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1",
                       MASTER_PORT=str(port), LLMCTL_COMM_TOKEN="plan")
            started.append(subprocess.Popen([*command, "--comm", "tcp"], env=env, stdout=subprocess.DEVNULL))
    most = 0
    for process in started:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        if status:
            sys.exit(f"{name}: a rank ended with {status}")
        most = max(most, usage.ru_maxrss * 1024)
    return most


def planned(binary, name, ranks, fields, plan_flags):
    """Bytes of the trainer's own plan, and of `model plan` of the layout with what a process holds beside it."""
    base = ["--threads", "1", "--json", "--quiet", *flags_of(fields)]
    own = subprocess.run([binary, "train", f"{name}.json", "--plan", "--ranks", str(abs(ranks)), *base], check=True,
                         capture_output=True, text=True)
    layout = subprocess.run([binary, "model", "plan", f"{name}.json", *base, *plan_flags], capture_output=True, text=True)
    own, layout = json.loads(own.stdout), json.loads(layout.stdout)
    if ranks == 1:
        return own["bytes"], layout["bytes"]
    beside = sum(line["bytes"] for line in own["memory"] if line["what"] in BESIDE)
    return own["bytes"], layout["bytes"] + beside


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("llmctl")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    binary, worst = os.path.abspath(args.llmctl), 0.0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare(binary)
        print(f"{'layout':<20} {'measured':>10} {'train --plan':>13} {'off':>7} {'model plan':>11} {'off':>7}")
        for number, (name, (ranks, model, fields, plan_flags)) in enumerate(LAYOUTS.items()):
            if ranks == 0 or (args.names and name not in args.names):
                continue
            with open(f"{name}.json", "w", encoding="ascii") as file:
                json.dump(config(model), file)
            own, layout = planned(binary, name, ranks, fields, plan_flags)
            held = measure(binary, name, ranks, fields, 29800 + number)
            off = own / held - 1, layout / held - 1
            if ranks > 0:
                worst = max(worst, *map(abs, off))
            print(f"{name:<20} {held / 2**20:>10.1f} {own / 2**20:>13.1f} {100 * off[0]:>+6.1f}% {layout / 2**20:>11.1f} "
                  f"{100 * off[1]:>+6.1f}%", flush=True)
    sys.exit(worst > 0.05)


if __name__ == "__main__":
    main()
