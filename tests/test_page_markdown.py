"""Formulas, coloured code, task lists and footnotes on the chat page, in a real Chromium."""

import json

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from .serving import scripted

MODULE = """
const [done, ...given] = [arguments[arguments.length - 1], ...arguments];
import("/static/markdown.js").then(async ({ nodes, Growing }) => { %s }).then(done, (error) => done(String(error)));
"""
# Each text, and the formulas in it.
FORMULAS = {
    r"The area is \(\pi r^2\).": [r"\(\pi r^2\)"],
    r"So $E = mc^2$, and $x$.": ["$E = mc^2$", "$x$"],
    "当$x>0$时，$y=1$。": ["$x>0$", "$y=1$"],
    "$$c*d*e$$ f": ["$$c*d*e$$"],
    "Thus\n\\[\na\n- b\n+ c = 0\n\\]\nholds.": ["\\[\na\n- b\n+ c = 0\n\\]"],
    "1. First\n   $$\n   x_1\n   $$\n2. Second": ["$$\nx_1\n$$"],
    "$\\frac{1}{2}$ and \\$5": ["$\\frac{1}{2}$"],
    "$5 and $6, US$7 or $8.": [],
    "It costs $5 million, not 6$.": [],
    "价格是$5，不是$6。": [],
    "`$x$` and ``\\(y\\)``": [],
    "```\n$$x$$\n```": [],
    "echo $HOME/bin:$PATH": [],
    "$ x $ and $y $": [],
    "An empty \\(\\) one": [],
    "Cut \\(x": [],
    "Cut\n\n$$\nx": [],
}


def run(browser, code, *arguments):
    return browser.driver.execute_async_script(MODULE % code, *arguments)


def test_formulas_are_found_and_prices_are_not(browser, bare_folder):
    with scripted(bare_folder, []) as (url, *_):
        browser.open(url)
        found = run(
            browser,
            """return given[0].map((text) => [...nodes(text)].flatMap((node) => node.matches?.(".maths")
                 ? [node] : [...node.querySelectorAll(".maths")]).map((one) => one.textContent));""",
            list(FORMULAS),
        )
        assert dict(zip(FORMULAS, found, strict=True)) == FORMULAS


WRITTEN = r"""
The roots of $ax^2 + bx + c = 0$ are

\[
x = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}
\]

and $5 is a price; \(\unknown{x}\) is nothing.
"""


@pytest.mark.slow
def test_formulas_are_drawn_and_never_seen_as_errors(browser, bare_folder):
    with scripted(bare_folder, ["\n" + WRITTEN, "\nNone."], pause=0.004) as (url, *_):
        browser.open(url)
        assert not browser.js("return performance.getEntriesByType('resource').some(({name}) => /katex/.test(name))")
        browser.js(
            "window.seen = new Set(); new MutationObserver(() => { for (const one of document.querySelectorAll("
            "'.katex-error, .prose li')) seen.add(one.outerHTML); }).observe(thread, {childList: true, subtree: true})"
        )
        browser.ask("Roots?")
        browser.until("return document.querySelectorAll('.maths.drawn').length === 2")
        assert browser.js("return [...window.seen]") == []
        assert (
            browser.js("return document.querySelector('.prose .maths:not(.drawn)').textContent") == r"\(\unknown{x}\)"
        )
        assert browser.js("return document.querySelectorAll('.prose .katex-display svg').length") == 1
        assert "$5 is a price" in browser.js("return document.querySelector('.prose').innerText")
        browser.until("return document.fonts.check('16px KaTeX_Main')")
        assert (
            browser.js("return getComputedStyle(document.querySelector('.drawn .mathnormal')).fontFamily")
            == "KaTeX_Math"
        )
        # Screen readers get MathML.
        assert browser.js("return document.querySelectorAll('.maths math').length") == 2
        browser.reload()
        browser.until("return document.querySelectorAll('.maths.drawn').length === 2")
        assert browser.js("return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 5")
        assert all(address.startswith(url) for address in browser.requested())
        assert browser.complaints() == []


HOSTILE = [
    r"\href{javascript:alert(1)}{x}",
    r"\url{https://evil.example/}",
    r"\includegraphics{https://evil.example/a.png}",
    r"\htmlClass{a}{x}",
    r"\htmlStyle{background: url(https://evil.example)}{x}",
    r"\htmlData{a=b}{x}",
    r"\def\a{\a\a}\a",
    r"\rule{100000em}{100000em}",
    "\\text{<img src=x onerror=alert(1)>}",
    "{" * 500 + "x" + "}" * 500,
]


@pytest.mark.slow
def test_hostile_formulas_do_nothing(browser, bare_folder):
    with scripted(bare_folder, ["\n" + "\n\n".join(f"$${one}$$" for one in HOSTILE) + "\n\n$$x$$"]) as (url, *_):
        browser.open(url)
        browser.ask("Go")
        browser.until("return document.querySelectorAll('.maths.drawn').length >= 2")
        assert (
            browser.js("return document.querySelectorAll('.prose :is(a, img, script, iframe, [href], [src])').length")
            == 0
        )
        assert browser.js("return [...document.querySelectorAll('.maths *')].flatMap(e => e.getAttributeNames())"
                          ".filter(name => name.startsWith('on') || name.startsWith('data-'))") == []  # fmt: skip
        assert browser.js("return document.querySelector('.prose').getBoundingClientRect().width") < 1000
        assert all(address.startswith(url) for address in browser.requested())


CODE = "```python\ndef area(r):  # of a circle\n    return 3.14 * r ** 2, 'm²'\n```"


@pytest.mark.slow
def test_code_has_colours_and_is_copied_as_it_is(browser, bare_folder):
    with scripted(bare_folder, ["\n" + CODE + "\n\n```nothing\nx = 1\n```", "\n```\nplain\n```"]) as (url, *_):
        browser.open(url)
        browser.ask("Code?")
        browser.until("return document.querySelector('.code-keyword')")
        parts = browser.js(
            "return [...document.querySelectorAll('.code span[class]')].map(e => [e.className, e.textContent])"
        )
        assert {tuple(part) for part in parts} >= {
            ("code-keyword", "def"), ("code-title", "area"), ("code-comment", "# of a circle"), ("code-number", "3.14"),
            ("code-string", "'m²'"),
        }  # fmt: skip
        source = CODE.split("\n", 1)[1].rsplit("\n", 1)[0]
        assert browser.text(".code code") == source
        browser.cdp("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
        browser.js("document.querySelector('.code [data-copy]').focus()")
        browser.driver.switch_to.active_element.send_keys("\n")
        browser.until("return document.querySelector('.code [data-copy]').ariaLabel === 'Copied'")
        copied = "navigator.clipboard.readText().then(arguments[arguments.length - 1])"
        assert browser.driver.execute_async_script(copied) == source
        browser.click(".turn.reply .actions [data-copy]")
        browser.until("return document.querySelector('.turn.reply .actions [data-copy]').ariaLabel === 'Copied'")
        assert browser.driver.execute_async_script(copied).startswith(CODE)
        assert browser.complaints() == []


LISTS = """
Opening hours[^1] and tasks[^why]:

- [x] open
- [ ] close *early*
- [link](https://a.example)

[^1]: From nine
to five.
[^why]: Because.
"""
DRAWN = (
    "<p>Opening hours<sup>MARK</sup> and tasks<sup>MARK</sup>:</p>"
    '<ul><li class="task">BOX open</li><li class="task">BOX close <em>early</em></li>'
    '<li><a href="https://a.example" rel="noopener noreferrer" target="_blank">link</a></li></ul>'
    '<p class="footnote" data-note="1">MARK From nine<br>to five.</p>'
    '<p class="footnote" data-note="why">MARK Because.</p>'
)


def test_task_lists_and_footnotes(browser, bare_folder):
    with scripted(bare_folder, [LISTS]) as (url, *_):
        browser.open(url)
        browser.ask("Lists?")
        shown = browser.js(
            """const copy = document.querySelector(".prose").cloneNode(true);
            copy.querySelectorAll("button").forEach((one) => one.replaceWith("MARK"));
            copy.querySelectorAll("input").forEach((one) => one.replaceWith("BOX "));
            return copy.innerHTML;"""
        )
        assert shown.replace("BOX  ", "BOX ") == DRAWN
        boxes = "return [...document.querySelectorAll('.task input')].map(e => [e.checked, e.disabled, e.ariaLabel])"
        assert browser.js(boxes) == [[True, True, "Done"], [False, True, "To do"]]
        browser.click("sup button", 1)
        assert browser.js("return document.activeElement.closest('p').dataset.note") == "why"
        browser.driver.switch_to.active_element.send_keys("\n")
        assert browser.js("return document.activeElement.ariaLabel") == "Footnote why"


def test_a_text_that_grows_ends_as_the_whole_does(browser, bare_folder):
    with scripted(bare_folder, []) as (url, *_):
        browser.open(url)
        texts = [*FORMULAS, WRITTEN, LISTS, CODE, "\n\n".join([WRITTEN, LISTS, CODE])]
        whole, grown = run(
            browser,
            """
            const html = (made) => { const d = document.createElement("div"); d.append(...made); return d.innerHTML; };
            const grow = (text) => {
              const target = document.createElement("div");
              const growing = new Growing(target);
              for (const char of text) { growing.tail += char; growing.draw(); }
              growing.end();
              return target.innerHTML;
            };
            return [given[0].map((text) => html(nodes(text))), given[0].map(grow)];
            """,
            texts,
        )
        for text, one, other in zip(texts, whole, grown, strict=True):
            assert other == one, json.dumps(text)
