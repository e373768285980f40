"""The numpy reference agrees with llama.cpp: log-probabilities of whole vocabularies, at every position of a prompt.

Runs when PARLEY_LLAMA_SERVER names a llama-server; skipped otherwise. This checks the yardstick, not the engine.
"""
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from conftest import ROOT

import reference

SERVER = os.environ.get("PARLEY_LLAMA_SERVER")
pytestmark = pytest.mark.skipif(not SERVER, reason="PARLEY_LLAMA_SERVER is not set")

# Prompts longer than gemma3's window of 16, so that local layers forget.
IDS = [int(i) for i in np.random.default_rng(7).integers(0, 505, 40)]
POSITIONS = [1, 2, 3, 8, 16, 17, 18, 25, 40]

MODELS = {
    "llama": ["--arch", "llama"],
    "llama-untied": ["--arch", "llama", "--untied", "--seed", "5"],
    "llama-wide": ["--arch", "llama", "--width", "96", "--heads", "6", "--kv-heads", "2", "--layers", "4"],
    "llama-linear": ["--arch", "llama", "--rope", "linear"],
    "llama-yarn": ["--arch", "llama", "--rope", "yarn"],
    "llama-yarn-factor": ["--arch", "llama", "--rope", "yarn", "--yarn-attn-factor", "1.3", "--rope-factor", "8"],
    "llama-llama3": ["--arch", "llama", "--rope", "llama3", "--rope-factor", "8"],
    "llama-bf16": ["--arch", "llama", "--type", "bf16"],
    "llama-f16": ["--arch", "llama", "--type", "f16"],
    "qwen2": ["--arch", "qwen2"],
    "qwen2-yarn": ["--arch", "qwen2", "--rope", "yarn"],
    "gemma3": ["--arch", "gemma3"],
    "gemma3-linear": ["--arch", "gemma3", "--rope", "linear", "--rope-factor", "8"],
    "gemma3-pattern": ["--arch", "gemma3", "--layers", "4", "--pattern", "3"],
    "gemma3-softcap": ["--arch", "gemma3", "--softcap", "5", "--heads", "4", "--kv-heads", "1"],
}
# llama.cpp multiplies 16-bit weights with activations rounded to 16 bits; its GELU is a table of halves.
TOLERANCE = {"llama-bf16": 5e-3, "llama-f16": 3e-3}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(port, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


class Server:
    def __init__(self, model, context=512, kv="f32"):
        self.port = free_port()
        self.process = subprocess.Popen(
            [SERVER, "-m", str(model), "--port", str(self.port), "-c", str(context), "-t", "2", "-np", "1", "-fa",
             "off", "-ctk", kv, "-ctv", kv, "--no-warmup", "--no-webui", "-fit", "off"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        for _ in range(300):
            try:
                ask(self.port, "/health")
                return self
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError("llama-server ended")
                time.sleep(0.1)
        raise RuntimeError("llama-server does not answer")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)

    def log_probs(self, ids, n_vocab):
        # The bias makes "!" (a tiny model's token 33) the answer: an end token or half a character would come without
        # probabilities. Those given are from before sampling.
        answer = ask(self.port, "/completion", {"prompt": ids, "n_predict": 1, "n_probs": n_vocab, "cache_prompt": False,
                                                "logit_bias": [[33, 1000]], "post_sampling_probs": False})
        out = np.full(n_vocab, np.nan)
        for entry in answer["completion_probabilities"][0]["top_logprobs"]:
            out[entry["id"]] = entry["logprob"]
        return out


def chat(port, *turns):
    messages = [{"role": "assistant" if i % 2 else "user", "content": t} for i, t in enumerate(turns)]
    answer = ask(port, "/v1/chat/completions", {"messages": messages, "max_tokens": 200, "temperature": 1,
                                                "reasoning_format": "none"})
    return answer["choices"][0]["message"]["content"], answer["choices"][0]["finish_reason"]


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("name", MODELS)
def test_log_probabilities(name, tmp_path):
    path = tmp_path / f"{name}.gguf"
    subprocess.run([sys.executable, ROOT / "tools" / "make-tiny-gguf", path, *MODELS[name]], check=True)
    ours = log_softmax(reference.logits(str(path), IDS))
    worst = 0
    with Server(path) as server:
        for n in POSITIONS:
            theirs = server.log_probs(IDS[:n], ours.shape[1])
            assert not np.isnan(theirs).any()
            worst = max(worst, np.linalg.norm(theirs - ours[n - 1]) / np.linalg.norm(ours[n - 1]))
    print(f"{name}: largest relative difference {worst:.2e}")
    assert worst < TOLERANCE.get(name, 1e-3)


SCRIPTS = {
    "": "Hello! I am a scripted model, naïve but reliable: 漢字 and 🎉 included.",
    "[[weather]]": '<think>\nHm.\n</think>\n\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>',
    "[[sunny]]": "It is sunny in Paris today, the the the the end.",
}


@pytest.mark.parametrize("context, type_name", [(4096, "f32"), (4096, "q8_0"), (32768, "bf16")])
def test_scripted_model_follows_its_script(tmp_path, context, type_name):
    scripts, model = tmp_path / "scripts.json", tmp_path / "m.gguf"
    scripts.write_text(json.dumps(SCRIPTS))
    subprocess.run([sys.executable, ROOT / "tools" / "make-tiny-gguf", model, "--script", scripts, "--context",
                    str(context), "--type", type_name], check=True)
    filler = "x, y. " * (context // 400)  # about context / 100 tokens
    with Server(model, context, "f16") as server:
        for expected, *turns in [("", "hi"), ("", "the weather"), ("[[weather]]", "What is the [[weather]] in Paris?"),
                                 ("[[sunny]]", "[[weather]]?", SCRIPTS["[[weather]]"], filler + "now [[sunny]]"),
                                 ("[[weather]]", "[[sunny]]", "yes", "and " + filler + "[[weather]]", "so", filler * 30)]:
            assert chat(server.port, *turns) == (SCRIPTS[expected], "stop")
