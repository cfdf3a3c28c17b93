import functools
import json
from pathlib import Path

import pytest

from convert.output.tokenizer import unmergeable_words, write_tokenizer
from edge.demo import CHECKPOINT
from runtime.checkpoint.tokenizer import read_json, read_tokenizer
from runtime.errors import CheckpointError
from runtime.vocabulary import Vocabulary

from .conftest import SPECIAL_TOKENS
from .references import REFERENCE, WHOLE_WORDS, own_ranks, write_tiktoken

ROOT = Path(__file__).resolve().parents[1]
MERGED = [b"he", b"ll", b"llo", b"hello", b" w", b"  ", b"\xe4\xbd", "你".encode(), "好".encode()[:2], "好".encode()]
RANKS = [bytes([byte]) for byte in range(256)] + MERGED
VOCABULARY = len(RANKS) + len(SPECIAL_TOKENS)

TEXTS = {
    "empty": "",
    "English": "Hello, hello world! It's THEY'LL don't.",
    "Chinese": "你好，世界！春眠不觉晓，处处闻啼鸟。",
    "mixed": "在GLM-4中，token的id是151329。",
    "emoji": "🎉👩\u200d🚀👨\u200d👩\u200d👧🇨🇳 ☕️",
    "code": "def f(x):\n    return x ** 2  # 平方\n\n\n\tif not x:\r\n\t\tpass\r\n",
    "json": '{"city": "北京", "days": [1, 22, 333, 4444]}',
    "whitespace": "   a\t\tb \n \n\n  c   \r\n\r\n ",
    "only blanks": "    ",
    "numbers": "1 12 123 1234 12345 3.14159 ١٢٣ ½",
    "combining": "café cafe\u0301 Å A\u030a ﬁ",
    "scripts": "Привет שלום مرحبا नमस्ते こんにちは 한국어",
    "odd characters": "\x00\x01\ufffd\ufeff\u2028\u3000",
    "special tokens": "[gMASK]<sop><|system|>\nbrief<|user|>\n你好<|assistant|>\nhello<|observation|>\n{}<|endoftext|>",
    "special tokens in words": "a<sop>b <|user|><|user|> [MASK]. <eop>\n",
    "almost special tokens": "<|user|<|user|>> [gMASK <sop <|nobody|> <think>x</think>",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tokenizer of a tiny checkpoint, and the folder to which it was converted."""
    folder = tmp_path_factory.mktemp("tokenizer")
    source = read_tokenizer(write_tiktoken(folder, RANKS), VOCABULARY)
    (folder / "out").mkdir()
    write_tokenizer(source, folder / "out")
    return source, folder / "out"


@functools.cache
def loaded(folder):
    import openvino_genai as genai
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json")), genai.Tokenizer(str(folder))


def check(source, folder, text):
    """IR, tokenizer.json and source agree, there and back."""
    ids = source.encode(text)
    written, tokenizer = loaded(folder)
    assert list(written.encode(text).ids) == ids
    for adds in (True, False):  # even when asked to, it adds nothing
        assert tokenizer.encode(text, add_special_tokens=adds).input_ids.data[0].tolist() == ids
    if ids:
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
    return ids


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_the_ir_splits_and_joins_like_the_tokenizer(tiny, text):
    check(*tiny, text)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_vocabulary_is_that_of_tiktoken(vocabulary, text):
    ids = check(vocabulary.source, vocabulary.folder, text)
    assert ids == vocabulary.encoding.encode(text, allowed_special="all")


def long_texts():
    places = [ROOT / "docs", ROOT / "tests" / "templates", CHECKPOINT, *([REFERENCE] if REFERENCE.is_dir() else [])]
    found = [path for place in places for kind in ("*.jinja", "*.md", "LICENSE") for path in place.rglob(kind)]
    return [Path(__file__), ROOT / "README.md", ROOT / "LICENSE", *found]


def test_a_vocabulary_on_long_texts(vocabulary):
    assert len(long_texts()) > 8
    for path in long_texts():
        text = path.read_text(encoding="utf-8")
        wanted = vocabulary.encoding.encode(text, allowed_special="all")
        assert vocabulary.source.encode(text) == wanted, path.name


def test_the_tokens_of_a_vocabulary_are_found(vocabulary):
    """Some are reached only by a look-up of the whole word, which OpenVINO's BPE does not do by itself."""
    _, tokenizer = loaded(vocabulary.folder)
    encoding = vocabulary.encoding
    looked_up = unmergeable_words(vocabulary.source.tokenizer)
    if vocabulary.name == "real":
        assert len(looked_up) == 893
    else:
        assert looked_up.keys() == {space + word for word in WHOLE_WORDS for space in ("", " ")}
    step = 40 if vocabulary.name == "real" else 1
    texts = [
        *looked_up,
        *(text for i in range(0, vocabulary.first_special, step) if "\ufffd" not in (text := encoding.decode([i]))),
    ]
    found = [tokenizer.encode(text, add_special_tokens=False).input_ids.data[0].tolist() for text in texts]
    assert found == [encoding.encode(text) for text in texts]
    assert found[: len(looked_up)] == [[id] for id in looked_up.values()]


WORDS = [" 研究", " 首先", " 好", " zehn", "zehn", "しない", "Однако"]
FRAMES = ["{}", "a{}b", "{}的", "的{}。", "  {} {}", "12{}", "\n{}\n{}\r\n {}", "<|user|>{}<|user|>\n{}", "，{}，{}"]


@pytest.mark.parametrize("text", FRAMES)
@pytest.mark.parametrize("word", WORDS)
def test_words_that_merges_do_not_lead_to(vocabulary, word, text):
    text = text.replace("{}", word)
    ids = check(vocabulary.source, vocabulary.folder, text)
    assert ids == vocabulary.encoding.encode(text, allowed_special="all")


def test_special_tokens_keep_their_ids(vocabulary):
    first = {"own": len(own_ranks()), "real": 151329}[vocabulary.name]
    source = vocabulary.source
    assert list(source.special_tokens.items()) == [(name, first + i) for i, name in enumerate(SPECIAL_TOKENS)]
    assert (source.eos_token, source.pad_token) == ("<|endoftext|>", "<|endoftext|>")


def test_genai_knows_the_end_token(tiny):
    import openvino_genai as genai

    tokenizer = genai.Tokenizer(str(tiny[1]))
    assert tokenizer.get_eos_token_id() == tokenizer.get_pad_token_id() == len(RANKS)
    ids = tiny[0].encode("<|user|>hello<|observation|>")
    assert tokenizer.decode(ids) == "hello"
    assert Vocabulary.read(tiny[1] / "tokenizer.json").decoder().feed(ids) == "<|user|>hello<|observation|>"


def test_what_tokenizer_json_adds_by_itself_is_dropped(tiny, tmp_path):
    """As in the -hf checkpoints, which put [gMASK]<sop> before every text, and pad and truncate."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer.from_file(str(tiny[1] / "tokenizer.json"))
    prefix = [("[gMASK]", len(RANKS) + 2), ("<sop>", len(RANKS) + 4)]
    tokenizer.post_processor = TemplateProcessing(single="[gMASK] <sop> $A", special_tokens=prefix)
    tokenizer.enable_padding(length=50)
    tokenizer.enable_truncation(2)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    source = read_tokenizer(tmp_path, VOCABULARY, end_ids=[len(RANKS) + 7, len(RANKS)])
    assert source.eos_token == source.pad_token == "<|user|>"
    assert source.special_tokens == tiny[0].special_tokens
    (tmp_path / "out").mkdir()
    write_tokenizer(source, tmp_path / "out")
    assert check(source, tmp_path / "out", "hello world") == tiny[0].encode("hello world")


def edit(**changes):
    def change(folder):
        config = read_json(folder / "tokenizer_config.json")
        (folder / "tokenizer_config.json").write_text(json.dumps(config | changes))

    return change


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def cut(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


BROKEN = {
    "no files": (lambda folder: (folder / "tokenizer.model").unlink(), "neither tokenizer.json nor tokenizer.model"),
    "no base64": (write("tokenizer.model", b"IQ== 0\n!! 1\n"), "line 2 is not a token and its rank"),
    "no rank": (write("tokenizer.model", b"IQ==\n"), "line 1 is not a token"),
    "a pointer instead of the file": (write("tokenizer.model", b"version https://x\noid sha256:1\n"), "line 1"),
    "binary": (write("tokenizer.model", bytes(range(256))), "line 1"),
    "cut short": (cut("tokenizer.model", 900), "line 113 is not"),
    "cut short after a line": (cut("tokenizer.model", 7 * 3), "no token for the byte 3"),
    "empty": (write("tokenizer.model", b""), "no token for the byte 0"),
    "a rank twice": (write("tokenizer.model", b"IQ== 0\nIg== 0\n"), "twice"),
    "broken tokenizer.json": (write("tokenizer.json", b'{"model": 1'), "tokenizer.json is damaged"),
    "not even text": (write("tokenizer.json", b"\xff\xfe"), "tokenizer.json is damaged"),
    "broken config": (write("tokenizer_config.json", b"{"), "not readable JSON"),
    "config of another kind": (write("tokenizer_config.json", b"[]"), "not a JSON object"),
    "no special tokens": (write("tokenizer_config.json", b"{}"), "no special tokens"),
    "special tokens of a wrong kind": (edit(added_tokens_decoder={"a": 1}), "added_tokens_decoder is damaged"),
    "special tokens in a list": (edit(added_tokens_decoder=[1]), "added_tokens_decoder is damaged"),
    "a hole before a special token": (edit(added_tokens_decoder={"999": {"content": "<x>"}}), "the id 999"),
    "no end token": (edit(eos_token=None), "no end token"),
}


@pytest.mark.parametrize(("harm", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_files_are_refused_in_one_line(tmp_path, harm, message):
    harm(write_tiktoken(tmp_path, RANKS))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_tokenizer(tmp_path, VOCABULARY)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=f"the id {VOCABULARY - 1}, but the model has only {VOCABULARY - 1} ids"):
        read_tokenizer(write_tiktoken(tmp_path, RANKS), VOCABULARY - 1)


def test_kinds_of_tokenizer_that_glm4_never_had_are_refused(tmp_path):
    from tokenizers import Tokenizer, models, normalizers

    def write_json(model, normalizer=None):
        tokenizer = Tokenizer(model)
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.add_special_tokens(["<|endoftext|>"])
        tokenizer.save(str(tmp_path / "tokenizer.json"))

    write_json(models.BPE({"a": 0}, []), normalizers.Nmt())
    source = read_tokenizer(tmp_path, 10, end_ids=[1])
    with pytest.raises(CheckpointError, match="cannot be converted"):
        write_tokenizer(source, tmp_path)
    write_json(models.WordPiece({"a": 0, "好": 1}))
    with pytest.raises(CheckpointError, match="not a byte-level BPE"):
        read_tokenizer(tmp_path, 10, end_ids=[2])
