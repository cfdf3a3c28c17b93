import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ModelFolderError
from runtime.vocabulary import Vocabulary, byte_alphabet


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """A token for each byte, and a special one."""
    path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.json"
    added = [{"id": 256, "content": "<|user|>"}]
    path.write_text(json.dumps({"model": {"vocab": byte_alphabet()}, "added_tokens": added}))
    return Vocabulary.read(path)


@given(st.text(), st.data())
def test_text_comes_back_and_no_character_is_split(vocabulary, text, data):
    ids = list(text.encode())
    decoder, pieces = vocabulary.decoder(), []
    while ids:
        size = data.draw(st.integers(1, len(ids)))
        pieces.append(decoder.feed(ids[:size]))
        ids = ids[size:]
    assert "".join([*pieces, decoder.finish()]) == text
    assert all(piece.isprintable() or piece in text for piece in pieces)
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


@given(st.lists(st.integers(0, 300)))
def test_any_ids_give_valid_text(vocabulary, ids):
    decoder = vocabulary.decoder()
    text = "".join([*(decoder.feed([i]) for i in ids), decoder.finish()])
    known = b"".join(bytes([i]) if i < 256 else b"<|user|>" for i in ids if i <= 256)
    assert text == known.decode(errors="replace")


@pytest.mark.parametrize(
    "content", ["", "[]", '{"model": {}}', '{"model": {"vocab": {"\u4f60": 0}}, "added_tokens": []}']
)
def test_what_is_no_byte_level_vocabulary_is_refused(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ModelFolderError, match="not a byte-level vocabulary"):
        Vocabulary.read(path)
