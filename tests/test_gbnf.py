"""A user's EBNF, in the notation of llama.cpp's GBNF and of xgrammar."""

import pytest

from runtime.errors import RequestError
from runtime.grammar.gbnf.compiler import compile_ebnf
from runtime.grammar.matcher import Matcher


def accepts(tree, text):
    matcher = Matcher(tree)
    return matcher.feed(text) == len(text) and matcher.complete


ARITHMETIC = """
root  ::= (expr "=" ws term "\\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \\t\\n]*
"""
CHESS = """
# a game in algebraic notation
root      ::= "1. " move " " move "\\n" ([1-9] [0-9]? ". " move " " move "\\n")+
move      ::= (pawn | nonpawn | castle) [+#]?
nonpawn   ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]  # a piece
pawn      ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle    ::= "O-O" "-O"?
"""
LIST = """
root ::= item+
# "•" stands before none of them
item ::= "- " [^\\r\\n\\x0b\\x0c\\x85\\u2028\\u2029]+ "\\n"
"""
JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""
JAPANESE = 'root ::= [ぁ-ゟァ-ヿ、-〿]+ | [\\u4e00-\\u9FFF]{2} | "\\U0001F600" | [^\\U00010000-\\U0010ffff]'
SAMPLES = {
    "arithmetic": (ARITHMETIC, ["x+1*(y -2)=3\n", "a=b\nc=d\n"], ["x=", "x==1\n", "", "x+=1\n"]),
    "chess": (
        CHESS,
        ["1. e4 e5\n2. Nf3 Nc6+\n", "1. exd5=Q O-O-O#\n10. Kxa1 O-O\n"],
        ["1. e4 e5\n", "1. e9 e5\n2. e4 e5\n"],
    ),
    "a list": (LIST, ["- a\n- b•\n"], ["- \n", "- a", "* a\n", "- a\u2028\n"]),
    "JSON": (
        JSON,
        ['{"a": [1, -2.5e3, {"b\\"": null}], "c": "\\u00e9"} '],
        ['{"a": 01x}', "[1]", '{"a" 1}', '{"a": "\x01"}'],
    ),
    "characters": (JAPANESE, ["ひらカタ", "漢字", "\U0001f600", "x"], ["漢漢漢", "\U0001f601", "xx"]),
    "counts": (
        'root ::= "a"{2} "b"{1,} "c"{0,2} ("d" "e"){ 1 , 2 } .',
        ["aabdex", "aabbccdede\n"],
        ["abdex", "aabcccdex"],
    ),
    "repeats of a repeat": ('root ::= ("a"{2})* "b"+?', ["", "aaaabb"], ["a", "aab b"]),
    "escapes": (
        r'root ::= "\x41\u0042\U00000043\n\t\r\\\"\]" [\]\-\\a-c^] [^\]^]?',
        ['ABC\n\t\r\\"]-x', 'ABC\n\t\r\\"]^'],
        ["ABC"],
    ),
    "names with dashes": ('root ::= a-b c_d2\na-b ::= "x"\nc_d2 ::= "y"', ["xy"], ["x"]),
    "an empty alternative": ('root ::= ("a" | ) "b" | ', ["ab", "b", ""], ["a"]),
    "rules that nothing uses": ('root ::= "a"\nother ::= "b" other2\nother2 ::= "c"', ["a"], ["bc"]),
    "a recursion to the right": ('root ::= "a" root | "b"', ["b", "aab"], ["a", ""]),
    "two rules that need each other": ('root ::= "(" x\nx ::= "x" root ")" | ")"', ["()", "(x())"], ["(", "(x)"]),
    "an alternative without end": ('root ::= "a" | "b" never\nnever ::= "c" never', ["a"], ["b", "bc"]),
}


@pytest.mark.parametrize(("text", "good", "bad"), SAMPLES.values(), ids=SAMPLES.keys())
def test_grammars_and_their_texts(text, good, bad):
    tree = compile_ebnf(text)
    assert [one for one in good if not accepts(tree, one)] == []
    assert [one for one in bad if accepts(tree, one)] == []


INVALID = {
    "no root": ('a ::= "b"', "it has no rule root"),
    "nothing": ("", "it has no rule root"),
    "a rule that is missing": ("root ::= a", "there is no rule a"),
    "a rule twice": ('root ::= "a"\nroot ::= "b"', "in the rule root, it is defined twice"),
    "an open group": ('root ::= ("a"', "in the rule root, a ( has no )"),
    "a group that ends twice": ('root ::= "a")', ") stands outside of a rule"),
    "an open literal": ('root ::= "a', "line 1 has '\"a'"),
    "an open class": ('root ::= "a"\nx ::= [a', "line 2 has '[a'"),
    "nothing to repeat": ('root ::= * "a"', "* has nothing before it to repeat"),
    "a count with nothing to repeat": ('root ::= {2} "a"', "{2} has nothing before it to repeat"),
    "a count that is reversed": ('root ::= "a"{3,2}', "the count {3,2} is not between 0 and 3,000"),
    "a count that is too large": ('root ::= "a"{99999}', "the count {99999} is not between"),
    "a range that is reversed": ("root ::= [b-a]", "the class [b-a] has a range that ends before it begins"),
    "a look-ahead": ('root ::= "a" (= "b")', "look-ahead is not supported"),
    "a left recursion": ('root ::= root "a" | "b"', "the rule root begins with itself"),
    "one behind what may be empty": ('root ::= "x"? (y "a" | "b")\ny ::= "z"* root', "begins with itself"),
    "only itself": ('root ::= "a" root', "it describes no text"),
    "another notation": ("root = 'a'", "line 1 has"),
    "text before the first rule": ('"a" root ::= "b"', "in the rule (none)"),
    "deep groups": (f'root ::= {"(" * 100}"a"{")" * 100}', "groups are nested too deeply"),
}


@pytest.mark.parametrize(("text", "words"), INVALID.values(), ids=INVALID.keys())
def test_what_is_not_valid_is_rejected_by_name(text, words):
    with pytest.raises(RequestError) as caught:
        compile_ebnf(text)
    assert str(caught.value).startswith("the EBNF is not valid: ")
    assert words in str(caught.value)
    assert caught.value.hint


def chain(count, last):
    """Return rules each of which needs the next."""
    return "\n".join(
        ['root ::= "<" r1 ">"', *(f'r{n} ::= "a" r{n + 1} | "b"' for n in range(1, count)), f"r{count} ::= {last}"]
    )


@pytest.mark.parametrize("last", ['"end"', '"(" root ")"'], ids=["regular", "recursive"])
def test_many_rules_in_a_chain_are_not_too_deep(last):
    tree = compile_ebnf(chain(400, last))
    assert accepts(tree, "<aab>")
    assert accepts(tree, f"<{'a' * 399}{'end' if 'end' in last else '(<b>)'}>")
    assert not accepts(tree, f"<{'a' * 399}>")


def test_many_rules_that_begin_with_one_another():
    rules = [f'r{n} ::= r{n + 1} "x"? | "b{n}"' for n in range(60)]
    tree = compile_ebnf("\n".join(["root ::= r0", *rules, 'r60 ::= "end"']))
    assert accepts(tree, "endxx")
    assert accepts(tree, "b59x")
