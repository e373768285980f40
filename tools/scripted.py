"""Weights of a "scripted" model: a llama of one layer that answers with given texts. For tests of what surrounds a model.

Scripts are {marker: text}. A prompt is answered with the text of the marker that was seen last in it, or with that of
the marker "" if there was none, then <|im_end|>. The text is cut into pieces, each a token of its own that occurs once,
so that a token alone tells what comes next:

- The embedding of a piece is a random code of signs; all ordinary tokens share the code START. The output row of a piece
  is the code of what it follows. That is the whole automaton.
- Which text begins after START is found by attention: one head asks every position for a marker, the nearer the more (a
  slow RoPE pair, offset so that the score falls evenly with the distance), and adds the marker's code to the residual.
  A wrong KV cache, mask or position therefore gives a wrong answer.

The margins are some 20 logits, so every temperature that is in use gives the script. With a KV cache of 16 bits two
markers must be about context / 500 tokens apart for the later one to win; of 8 bits, context / 40.

Ranked scripts ask otherwise: the marker that stands last in the file wins, wherever it is in the prompt. A story of many
steps is told in their order then, and nothing needs to be padded.
"""
import numpy as np

WIDTH, HEADS, KV_HEADS, HEAD_DIM = 256, 4, 2, 64
STATE = slice(0, 190)  # code of a piece, or of START
MARK = slice(190, 250)  # code of the marker
FLAG, ONE = 250, 251  # 1 in markers; 1 in all tokens
DEFAULT_BONUS = 0.15  # how much the text of "" is preferred when there is no marker
QUERY, KEY = 1000.0, 200.0  # scores of tens of thousands: the steps between near markers must be large, too
RANK = 1.04  # ranked: so many times the weight of the marker before it in the file


def cut(texts, taken, length=4):
    """Lists of pieces (bytes) of each text; no two pieces are equal, nor in `taken`. Cuts may fall inside a character."""
    out, taken = [], set(taken)
    for text in texts:
        pieces, rest = [], text.encode("utf-8")
        while rest:
            n = min(length, len(rest))
            while n < len(rest) and rest[:n] in taken:
                n += 1
            piece, rest = rest[:n], rest[n:]
            while piece in taken and pieces:
                taken.discard(pieces[-1])
                piece = pieces.pop() + piece
            if piece in taken:
                raise ValueError(f"the text {text!r} is too short to be told from others")
            taken.add(piece)
            pieces.append(piece)
        if not pieces:
            raise ValueError("a script may not be empty")
        out.append(pieces)
    return out


def recency_pair(rope_base, context):
    """The RoPE pair whose angle stays below pi / 3 over the whole context."""
    for pair in range(HEAD_DIM // 2):
        if rope_base ** (-2.0 * pair / HEAD_DIM) * context <= np.pi / 3:
            return pair
    raise ValueError("the context is too long for this RoPE base")


def signs(rng, n, length):
    return rng.integers(0, 2, (n, length)).astype(np.float32) * 2 - 1


def distance_pair(rope_base, context, ranked):
    """(pair, offset): cos(angle + offset) falls with the distance; ranked: hardly at all, by less than a rank."""
    if not ranked:
        return recency_pair(rope_base, context), np.pi / 6
    pair = HEAD_DIM // 2 - 1
    if np.cos(rope_base ** (-2.0 * pair / HEAD_DIM) * context) * RANK < 1.01:
        raise ValueError("the context is too long for ranked scripts")
    return pair, 0.0


def weights(n_vocab, markers, pieces, end, rope_base, context, seed, ranked=False):
    """markers: {token id: script number}; pieces: token ids of each script's text; script 0 is the default.
    Returns (embedding, query, key, value, attention output, output), each [rows][row length]."""
    rng = np.random.default_rng(seed)
    n_pieces = sum(len(p) for p in pieces)
    start, *codes = signs(rng, 1 + n_pieces, STATE.stop - STATE.start)
    mark_codes = signs(rng, len(pieces), MARK.stop - MARK.start)
    embedding, output = (np.zeros((n_vocab, WIDTH), np.float32) for _ in range(2))
    embedding[:, STATE], embedding[:, ONE] = start, 1
    codes = iter(codes)
    for number, script in enumerate(pieces):
        output[script[0], STATE] = start * (1 if number else 1 + DEFAULT_BONUS)
        if number:
            output[script[0], MARK] = mark_codes[number]
        for token, after in zip(script, script[1:] + [end]):
            code = next(codes)
            embedding[token, STATE] = code
            output[after, STATE] += code
    for token, number in markers.items():
        embedding[token, FLAG], embedding[token, MARK] = RANK ** number if ranked else 1, mark_codes[number]

    pair, offset = distance_pair(rope_base, context, ranked)
    query = np.zeros((HEADS * HEAD_DIM, WIDTH), np.float32)
    key, value = (np.zeros((KV_HEADS * HEAD_DIM, WIDTH), np.float32) for _ in range(2))
    back = np.zeros((WIDTH, HEADS * HEAD_DIM), np.float32)
    query[2 * pair, ONE], query[2 * pair + 1, ONE] = QUERY * np.cos(offset), QUERY * np.sin(offset)
    key[2 * pair, FLAG] = KEY
    for i in range(MARK.stop - MARK.start):
        value[i, MARK.start + i] = 1
        back[MARK.start + i, i] = 1
    return embedding, query, key, value, back, output
