"""A line inside a fenced code block is known as such, however the text is cut."""

import pytest

from runtime.reply.code_fence import CodeFence

# Each line, and whether a line after it is in a block.
TEXTS = {
    "a block": [("Look:", False), ("```json", True), ("{}", True), ("```", False)],
    "tildes": [("~~~", True), ("```", True), ("~~~", False)],
    "a longer fence": [("````", True), ("```", True), ("`````", False)],
    "a fence with words does not close": [("```", True), ("``` x", True), ("```  ", False)],
    "CRLF": [("```json\r", True), ("{}\r", True), ("```\r", False)],
    "inline code": [("```x``` is code", False), ("``", False)],
    "in a list": [("1. ```py", True), ("   x", True), ("   ```", False)],
    "in a quotation": [("> ```", True), ("> x", True), ("> ```", False)],
    "behind a word": [("x ```", False), ("-```", False)],
    "a long line": [("x" * 500 + "```", False), ("```" + "y" * 500, True), ("```", False)],
}


@pytest.mark.parametrize("lines", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_block_is_open_between_its_fences(lines, size):
    fence = CodeFence()
    for line, is_open in lines:
        text = line + "\n"
        for start in range(0, len(text), size):
            fence.feed(text[start : start + size])
        assert fence.open is is_open, line


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_a_text_in_one_piece_ends_as_in_many(size):
    for lines in TEXTS.values():
        fence, text = CodeFence(), "".join(line + "\n" for line, _ in lines)
        for start in range(0, len(text), size):
            fence.feed(text[start : start + size])
        assert fence.open is lines[-1][1]
