"""Where the real models and the peers lie, and how quantised variants are made: for tools/compare and tools/bench."""
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "parley"
LLAMA_CPP = CACHE / "peers" / "llama.cpp-b11434"
IK_LLAMA_CPP = CACHE / "peers" / "ik_llama.cpp-0.1.5"

SMOL, GEMMA, QWEN = ("SmolLM2-135M-Instruct.Q4_1", "gemma-3-270m.Q4_K_M", "Qwen2.5-Coder-1.5B-Instruct.Q4_K_M")
# name -> (source, type, flags of llama-quantize ...). Types whose blocks are 256 long need rows that are a multiple of 256, which
# Qwen's are. The sources are quantised already: the variants serve speed and comparisons between engines, not quality.
VARIANTS = {f"{SMOL[:-5]}.{t}": (SMOL, t) for t in ("Q4_0", "Q8_0", "Q5_0", "Q5_1", "IQ4_NL", "Q4_K_M", "Q6_K", "F16", "BF16", "F32")}
VARIANTS |= {f"{QWEN[:-7]}.{t}": (QWEN, t) for t in ("Q4_0", "Q8_0", "Q6_K", "Q2_K", "Q3_K", "Q5_K", "IQ4_XS")}
# llama-quantize has MXFP4 for experts only: for a dense model the tensors are named, with embeddings in Q8_0, as in its Q4_0 files.
VARIANTS[f"{SMOL[:-5]}.MXFP4"] = (SMOL, "Q8_0", "--tensor-type", "attn_(q|k|v|output)=mxfp4", "--tensor-type", "ffn_=mxfp4")


def model_file(name):
    """Path of a fetched model, or of a variant, which is made with llama.cpp's llama-quantize when it is not there. NAME-as-F32: the
    weights of NAME, value for value, in a float type."""
    path = CACHE / "models" / f"{name}.gguf"
    if path.exists():
        return path
    if "-as-" in name:
        source, kind, *flags = name.rsplit("-as-", 1)
    elif name in VARIANTS:
        source, kind, *flags = VARIANTS[name]
    else:
        sys.exit(f"{path} is not there: make models (variants that can be made: {', '.join(VARIANTS)})")
    print(f"making {name} ...", file=sys.stderr, flush=True)
    r = subprocess.run([LLAMA_CPP / "build-native/bin/llama-quantize", "--allow-requantize", *flags, model_file(source), f"{path}.part",
                        kind], capture_output=True, check=False)
    if r.returncode:
        sys.exit(f"llama-quantize failed on {name}:\n" + r.stderr.decode(errors="replace")[-2000:])
    os.replace(f"{path}.part", path)
    return path
