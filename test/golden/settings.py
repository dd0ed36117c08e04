# Makes settings.json: greedy tokens and best logits of the demo draft under settings that change its numbers, computed in
# float32 by the formulas of Hugging Face's transformers 5 (LlamaModel, and _compute_linear_scaling_rope_parameters).
# Needs numpy 2. From the repository's root: python3 test/golden/settings.py > test/golden/settings.json
import json
import struct

import numpy as np

MODEL = "models/demo/draft"
PROMPT = [362, 800, 35, 3961, 334, 63, 87, 65, 285, 13]
STEPS = 24


def weights():
    with open(f"{MODEL}/model.safetensors", "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        halves = np.frombuffer(data[start:end], dtype="<u2").astype("<u4") << 16
        yield name, halves.view("<f4").reshape(entry["shape"])


W = dict(weights())
C = json.load(open(f"{MODEL}/config.json"))
HEADS, KV, DIM = C["num_attention_heads"], C["num_key_value_heads"], C["head_dim"]


def norm(x, weight):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(C["rms_norm_eps"])) * weight


def rotated(x, factor):
    """x: [tokens, heads, DIM]; the second half of a head is turned with the first."""
    frequencies = 1 / np.float32(C["rope_theta"]) ** (np.arange(0, DIM, 2, dtype=np.float32) / DIM) / np.float32(factor)
    angles = np.outer(np.arange(len(x), dtype=np.float32), frequencies)[:, None]
    a, b = x[..., : DIM // 2], x[..., DIM // 2 :]
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], axis=-1)


def attention(x, layer, factor):
    q, k, v = (x @ W[f"{layer}.self_attn.{name}_proj.weight"].T for name in "qkv")
    q = rotated(q.reshape(len(x), HEADS, DIM), factor)
    k = rotated(k.reshape(len(x), KV, DIM), factor).repeat(HEADS // KV, axis=1)
    v = v.reshape(len(x), KV, DIM).repeat(HEADS // KV, axis=1)
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(np.float32(DIM))
    scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = np.einsum("hqk,khd->qhd", scores / scores.sum(axis=-1, keepdims=True), v)
    return mixed.reshape(len(x), HEADS * DIM) @ W[f"{layer}.self_attn.o_proj.weight"].T


def logits(tokens, factor, head):
    h = W["model.embed_tokens.weight"][tokens]
    for index in range(C["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        h = h + attention(norm(h, W[f"{layer}.input_layernorm.weight"]), layer, factor)
        x = norm(h, W[f"{layer}.post_attention_layernorm.weight"])
        gate, up = (x @ W[f"{layer}.mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        h = h + (gate / (1 + np.exp(-gate)) * up) @ W[f"{layer}.mlp.down_proj.weight"].T
    return norm(h[-1:], W["model.norm.weight"])[0] @ head.T


def run(factor=1.0, head=None):
    head = W["model.embed_tokens.weight"] if head is None else head
    tokens, best = list(PROMPT), []
    for _ in range(STEPS):
        row = logits(tokens, factor, head)
        order = np.argsort(-row, kind="stable")[:5]
        best.append([[int(token), round(float(row[token]), 4)] for token in order])
        tokens.append(int(order[0]))
    return {"greedy": tokens[len(PROMPT) :], "top5": best}


print(
    json.dumps(
        {
            "tokens": PROMPT,
            "plain": run(),
            "linear 4": run(factor=4.0),
            "linear 2.5": run(factor=2.5),
            # Each row of the embedding is the head's for the token before.
            "own head": run(head=np.roll(W["model.embed_tokens.weight"], -1, axis=0)),
        }
    )
)
