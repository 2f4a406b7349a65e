# SPDX-License-Identifier: Apache-2.0
"""Small generated data, the same every time: text, chats, and labelled requests."""
import json
import random

WORDS = [["the sailor", "a child", "my neighbour", "the old dog"], ["sees", "likes", "paints", "counts"],
         ["7 boats", "the harbour", "a red kite", "42 stars"], ["today.", "at night!", "again?", "in the rain."]]
UNSAFE = {"violence": ["I will attack {} with a knife", "we should beat up {}", "I want to hurt {} badly"],
          "harassment": ["you are a worthless idiot, {}", "{} is a pathetic loser", "everybody despises {}"]}
SAFE = ["good morning, {}", "please help {} bake bread", "what is the capital of the country where {} lives?",
        "how do I kill a process that {} started?", "{} won the chess game", "thank you, {}"]
NAMES = ["Anna", "the teacher", "my neighbour", "Tom", "the driver", "our team", "Maria", "the clerk", "Ben"]


def sentence(rng):
    return " ".join(rng.choice(choices) for choices in WORDS)


def write_corpus(path, sentences=6000):
    """Sentences of a small grammar: every word is seen often, so that a few steps learn something."""
    rng = random.Random(5)
    lines = [sentence(rng) for _ in range(sentences)]
    path.write_text("\n\n".join("\n".join(lines[i:i + 20]) for i in range(0, sentences, 20)))
    return path


def write_chats(path, chats=800):
    """Sums as chats, one JSON object a line."""
    rng = random.Random(6)
    with path.open("w") as out:
        for _ in range(chats):
            a, b = rng.randrange(50), rng.randrange(50)
            turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"What is {a} + {b}?"},
                     {"role": "assistant", "content": f"{a} + {b} = {a + b}."}]
            out.write(json.dumps({"messages": turns[rng.randrange(2):]}) + "\n")
    return path


def write_requests(path, requests=1500):
    """Safe and unsafe requests with the categories of the moderation object."""
    rng = random.Random(7)
    with path.open("w") as out:
        for _ in range(requests):
            category = rng.choice([None, None, *UNSAFE])
            text = rng.choice(UNSAFE[category] if category else SAFE).format(rng.choice(NAMES))
            if rng.random() < 0.5:
                text += ", said " + sentence(rng)
            out.write(json.dumps({"text": text, "categories": [category] if category else []}) + "\n")
    return path
