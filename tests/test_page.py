"""The chat page in a real Chromium: on the real model, and on scripted replies where those have to be other words."""

import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

import edge
from edge.config.named_tools import load_functions
from edge.server.limits import Limits
from edge.server.page import chat as page
from runtime.backends.echo import Echo, spelled
from runtime.folder.model_folder import write_manifest
from runtime.grammar.grammar import JsonSchema
from runtime.progress import Progress

from .serving import scripted, serving_ours
from .test_serve import program
from .test_server import ENDLESS, until

STATIC = Path(edge.__file__).resolve().parent / "server" / "static"
CALL = ['clock\n{"city": "Oslo"}', "\nIt is noon."]
WILD = {"temperature": "5", "top_p": "1"}  # so the tiny model does not come to an end soon


def clock(city: str) -> str:
    """The time in a city."""
    return f"noon in {city}"


def broken(city: str) -> str:
    """The weather in a city."""
    raise RuntimeError(f"no weather in {city}")


TOOLS = load_functions([f"{__name__}:clock", f"{__name__}:broken"])


@pytest.fixture(scope="module")
def served(demo_folder):
    with serving_ours(
        demo_folder.path, tools=load_functions(["edge.cli.demo:disk_free", "edge.cli.demo:processors"])
    ) as found:
        yield found


@pytest.mark.slow
def test_a_chat_on_the_real_model_survives_a_reload(browser, served):
    url, _ = served
    browser.open(url)
    assert "I am a tiny test model" in browser.ask("Who are you?")
    assert re.fullmatch(r"The answer is .* GB\.", browser.ask("How much disk is free on /?"))
    assert browser.text(".call .name") == "disk_free"
    assert json.loads(browser.text(".call code")) == {"path": "/"}
    assert re.fullmatch(r"[\d.]+ GB", browser.text(".call code", 1))
    assert browser.text(".call .state") == "done"
    assert not browser.js("return document.querySelector('.call').open")
    before = browser.text("#thread")
    browser.type("a draft")
    browser.reload()
    assert browser.text("#thread") == before
    assert browser.js("return document.querySelector('#prompt').value") == "a draft"
    assert browser.texts(".list .open") == ["Who are you?"]
    assert browser.driver.title == "Who are you? · glm4-edge"
    assert browser.requested()
    assert all(address.startswith(url) for address in browser.requested())
    assert browser.complaints() == []


WRITING = "return document.querySelector('.busy .turn.reply:last-child .prose')?.textContent.length > 5"


@pytest.fixture
def endless(monkeypatch):
    """Replies on the real model are at least 1,800 characters long, so that they can be caught in the middle."""

    class Endless(page.Chat):
        def stream(self, text, **settings):
            return super().stream(text, **settings, answer=JsonSchema.from_schema(ENDLESS["schema"]))

    monkeypatch.setattr(page, "Chat", Endless)


@pytest.mark.slow
def test_stopping_keeps_what_came_and_frees_the_turn(browser, served, endless):
    url, dispatcher = served
    (entry,) = dispatcher.pool.entries.values()
    browser.open(url)
    settings(browser, temperature="1")
    for stop in ("click", "key"):
        browser.type("Who are you?\n")
        browser.until(WRITING)
        assert entry.queue.running == 1
        browser.click(".send") if stop == "click" else browser.type("\ue00c")
        until(lambda: entry.queue.running == 0)
        browser.replied()
        assert browser.text(".turn.reply:last-child .note") == "Stopped here."
    text = browser.text("#thread")
    browser.reload()
    assert browser.text("#thread") == text


def settings(browser, **values):
    browser.click(".top [data-t-label=settings]")
    for name, value in values.items():
        browser.js("arguments[0].value = ''", field := browser.all(f"#set-{name}")[0])
        field.send_keys(value)
    browser.click(".settings [data-t-label=close]")


@pytest.mark.slow
def test_what_is_set_reaches_the_model(browser, bare_folder):
    with scripted(bare_folder, []) as (url, _, engine):
        browser.open(url)
        settings(browser, temperature="0.5", top_p="0.25", max_tokens="7", system="Be brief.")
        assert browser.ask("Hello") == "I was"  # "\nI was" and a blank, which ends the text
        (asked,) = engine.requests
        assert (asked.sampling.temperature, asked.sampling.top_p, asked.sampling.max_new_tokens) == (0.5, 0.25, 7)
        assert "Be brief." in str(asked.prompt)
        assert browser.text(".note") == "The reply reached its length limit."
        browser.click(".new")
        settings(browser, system="Be long.")
        browser.ask("Hello")
        assert "Be brief." not in str(engine.requests[-1].prompt)
        assert engine.requests[-1].sampling.temperature == 0.5
        browser.click(".list .open", 1)
        browser.click(".top [data-t-label=settings]")
        assert browser.js("return document.querySelector('#set-system').value") == "Be brief."


def test_messages_are_edited_and_replies_written_again(browser, bare_folder):
    with scripted(bare_folder, ["\nOne.", "\nTwo.", "\nThree.", "\nFour."]) as (url, _, engine):
        browser.open(url)
        browser.ask("First")
        assert browser.ask("Second") == "Two."
        browser.click(".turn:last-child .retry")
        browser.until("return document.querySelector('.turn:last-child .prose')?.textContent === 'Three.'")
        browser.replied()
        browser.click(".user [data-t-label=edit]")
        browser.type("!\n", ".editing textarea")
        browser.until("return document.querySelector('.turn:last-child .prose')?.textContent === 'Four.'")
        assert browser.texts(".bubble") == ["First!"]
        assert "One." not in str(engine.requests[-1].prompt)
        assert "Second" in str(engine.requests[-2].prompt)


@pytest.mark.slow
def test_thoughts_and_calls_are_shown_as_they_come_and_folded_after(browser, bare_folder):
    thinking = write_manifest(bare_folder.path, replace(bare_folder.manifest, family="z1"))
    replies = [
        '<think>Which tool?</think>\n\nbroken\n{"city": "Oslo"}',
        "<think>It failed.</think>\nNo *weather* there.",
    ]
    with scripted(thinking, replies, pause=0.05, tools=TOOLS) as (url, _, engine):
        browser.open(url)
        assert browser.texts(".chip") == ["clock", "broken"]
        browser.type("Weather?\n")
        browser.until("return document.querySelector('.thoughts[open] .prose')?.textContent.length > 3")
        assert browser.text(".thoughts summary") == "Thinking …"
        browser.until("return document.querySelector('.call.running[open] code')?.textContent.length > 3")
        assert browser.js("return !document.querySelector('.thoughts').open")
        engine.pause = 0
        assert browser.replied().endswith("No weather there.")
        assert browser.text(".call .state") == "failed"
        assert "no weather in Oslo" in browser.text(".call code", 1)
        assert browser.js("return document.querySelectorAll('details[open]').length") == 0


def test_a_reply_goes_on_while_another_conversation_is_shown(browser, bare_folder):
    with scripted(bare_folder, ["\nThe first reply, slowly.", "\nThe second."], pause=0.05) as (url, _, engine):
        browser.open(url)
        browser.type("One\n")
        browser.until("return document.querySelector('.reply .prose')?.textContent.length > 3")
        browser.click(".new")
        assert browser.texts(".bubble") == []
        browser.click(".list .open")
        assert browser.text(".reply .prose").startswith("The")
        engine.pause = 0
        assert browser.replied() == "The first reply, slowly."


HOSTILE = """
<script>document.title = "script"</script>

<img src=x onerror="document.title = 'img'"> <iframe src="https://evil.example/frame"></iframe>

[a](javascript:document.title='link') [b](JaVaScRiPt:alert(1)) [c](data:text/html,<script>alert(1)</script>)
[d](&#106;avascript:alert(1)) <javascript:alert(1)> [e](https://good.example/ "on\\"mouseover=alert(1)") [f](/chat)

![g](https://evil.example/pixel.png) ![h](javascript:alert(1)) ![i](data:image/svg+xml;base64,PHN2Zz4=)

[j]: javascript:alert(1)
[j] <a href="javascript:alert(1)">k</a> <style>body { display: none }</style> <svg/onload=alert(1)>

```html"><img src=x onerror=alert(1)>
</code></pre><script>alert(1)</script>
```
"""
ENDS = ("good.example/", "evil.example/pixel.png", "evil.example/frame")


@pytest.mark.slow
def test_hostile_markdown_is_text(browser, bare_folder):
    with scripted(
        bare_folder, [HOSTILE, 'clock\n{"city": "<img src=x onerror=alert(1)>"}', "\n" + HOSTILE], tools=TOOLS
    ) as (
        url,
        *_,
    ):
        browser.open(url)
        browser.js(
            "document.addEventListener('securitypolicyviolation', e => (window.violated ??= []).push(e.blockedURI))"
        )
        said = browser.ask('<b onclick="alert(1)">Hi</b>')
        browser.ask("And with a tool?")
        assert '<script>document.title = "script"</script>' in said
        assert (
            browser.js("return document.querySelectorAll('#thread :is(script, iframe, style, img, object)').length")
            == 0
        )
        assert browser.js("return [...document.querySelectorAll('#thread *')].flatMap(e => e.getAttributeNames())"
                          ".filter(name => name.startsWith('on'))") == []  # fmt: skip
        links = browser.js("return [...document.querySelectorAll('#thread a')].map(a => [a.href, a.rel, a.target])")
        assert {address for address, *_ in links} == {f"https://{end}" for end in ENDS}
        assert {(rel, target) for _, rel, target in links} == {("noopener noreferrer", "_blank")}
        assert browser.text(".bubble") == '<b onclick="alert(1)">Hi</b>'
        assert "glm4-edge" in browser.driver.title
        assert browser.js("return window.violated") is None
        assert all(address.startswith(url) for address in browser.requested())
        # The policy holds where the page would not: markup, scripts and addresses of others.
        refused = browser.driver.execute_async_script(
            "const done = arguments[0], out = [];"
            "try { document.body.innerHTML = '<b>x</b>' } catch (error) { out.push(error.name) }"
            "const image = new Image(); image.onerror = () => fetch('https://evil.example/').catch("
            "error => { out.push(error.name); done(out) }); image.src = 'https://evil.example/pixel.png';"
        )
        assert refused == ["TypeError", "TypeError"]
        assert all(address.startswith(url) for address in browser.requested())


MARKDOWN = {
    "a **b** *c* ~~d~~ `e`": "<p>a <strong>b</strong> <em>c</em> <s>d</s> <code>e</code></p>",
    "**注意：**中文**“引号”**后": "<p><strong>注意：</strong>中文<strong>“引号”</strong>后</p>",
    "one\ntwo\n---\nthree": "<p>one<br>two</p><hr><p>three</p>",
    "# H\n\n#### h": '<h3 class="level-1">H</h3><h6 class="level-4">h</h6>',
    "1. a\n2. b\n   - c": "<ol><li>a</li><li>b<ul><li>c</li></ul></li></ol>",
    "3. a": '<ol start="3"><li>a</li></ol>',
    "> a\n> b": "<blockquote><p>a<br>b</p></blockquote>",
    "&lt;b&gt; &copy; \\* <b>": "<p>&lt;b&gt; © * &lt;b&gt;</p>",
    "\\(a_1 * b_2\\)": '<p><span class="maths">\\(a_1 * b_2\\)</span></p>',
    "$$c*d*e$$ f": '<p><span class="maths">$$c*d*e$$</span> f</p>',
    "https://a.example/x。": '<p><a href="https://a.example/x" rel="noopener noreferrer" target="_blank">https://a.example/x</a>。</p>',
    "a.example and me@a.example": "<p>a.example and me@a.example</p>",
    "[a](mailto:me@a.example)": '<p><a href="mailto:me@a.example" rel="noopener noreferrer" target="_blank">a</a></p>',
    "[a](ftp://a.example)": "<p>[a](ftp://a.example)</p>",
}  # fmt: skip


def run(browser, url, code, *arguments):
    """What an async function with the Markdown module's `nodes` and `Growing` returns."""
    return browser.driver.execute_async_script(
        f"const [done, ...given] = [arguments[arguments.length - 1], ...arguments];"
        f"import('/static/markdown.js').then(async ({{ nodes, Growing }}) => {{ {code} }})"
        ".then(done, (error) => done(String(error)))",
        *arguments,
    )


def test_markdown_becomes_nodes_whole_or_grown(browser, bare_folder):
    with scripted(bare_folder, []) as (url, *_):
        browser.open(url)
        cases = [
            *MARKDOWN,
            "\n\n".join(MARKDOWN),
            "```py\na = 1\n\nb = 2\n```\n\n| a | b |\n|:--|--:|\n| 1 | 2 |\n\ntext",
        ]
        whole, grown, kept = run(
            browser,
            url,
            """
            const html = (made) => { const d = document.createElement("div"); d.append(...made); return d.innerHTML; };
            const whole = given[0].map((text) => html(nodes(text)));
            const grown = given[0].map((text) => {
              const target = document.createElement("div");
              const growing = new Growing(target);
              for (const char of text) { growing.tail += char; growing.draw(); }
              growing.end();
              return target.innerHTML;
            });
            // Blocks that are at their end are not touched again, and a long code block is added to.
            const target = document.createElement("div");
            const growing = new Growing(target);
            const first = () => target.firstChild;
            growing.write("one\\n\\n```\\na"); growing.end();
            const [paragraph, figure] = target.childNodes;
            for (let line = 0; line < 50; line++) { growing.write("x\\n"); growing.end(); }
            growing.write("```\\n\\nlast"); growing.end();
            return [whole, grown, first() === paragraph && target.childNodes[1] === figure && growing.tail === "last"];
            """,
            cases,
        )
        assert dict(zip(MARKDOWN, whole, strict=False)) == MARKDOWN
        assert grown == whole
        assert kept is True


@pytest.mark.slow
def test_conversations_are_found_named_deleted_saved_and_loaded(browser, bare_folder):
    with scripted(bare_folder, [*CALL, "\nWell.", "\nGood."], tools=TOOLS) as (url, *_):
        browser.open(url)
        browser.ask("What time is it in Oslo?")
        browser.ask("Thanks")
        before = browser.text("#thread")
        browser.click(".share")
        browser.click("#saving [data-t=exportMarkdown]")
        browser.click(".share")
        browser.click("#saving [data-t=exportJson]")
        saved = browser.downloads / "What-time-is-it-in-Oslo.json"
        until(lambda: saved.exists() and saved.with_suffix(".md").exists())
        assert saved.with_suffix(".md").read_text(encoding="utf-8") == (
            "# What time is it in Oslo?\n\n## You\n\nWhat time is it in Oslo?\n\n## Reply\n\n**calls** `clock`\n\n"
            '```\n{"city": "Oslo"}\n```\n\n**Result** `clock`\n\n```\nnoon in Oslo\n```\n\nIt is noon.\n\n'
            "## You\n\nThanks\n\n## Reply\n\nWell.\n"
        )
        (kept,) = json.loads(saved.read_text(encoding="utf-8"))["conversations"]
        roles = "user assistant tool assistant user assistant".split()
        assert [message["role"] for message in kept["messages"]] == roles
        browser.click(".new")
        browser.ask("您好")
        browser.type("noon", ".find input")
        assert browser.texts(".list .open") == ["What time is it in Oslo?"]
        browser.js("arguments[0].value = ''", browser.all(".find input")[0])
        browser.type(" \ue003", ".find input")
        browser.click(".list [data-t-label=rename]", 1)
        browser.type("Oslo\n", ".list input")
        assert browser.texts(".list .open") == ["您好", "Oslo"]
        browser.click(".list .open", 1)
        browser.click(".list .current [data-t-label=remove]")
        browser.until("return document.querySelectorAll('.list .open').length === 1")
        browser.click(".notice .button")  # undo
        browser.until("return document.querySelectorAll('.list .open').length === 2")
        assert browser.text("#thread") == before
        browser.click(".top [data-t-label=settings]")
        browser.click(".settings .danger")
        browser.click(".settings .danger")
        browser.until("return document.querySelectorAll('.list .open').length === 0")
        for name, words in (("page.html", "is not a conversation"), (saved.name, "1 conversations were loaded")):
            (browser.downloads / "page.html").write_text("<html>")
            browser.click(".top [data-t-label=settings]")
            browser.type(str(browser.downloads / name), ".settings input[type=file]")
            browser.until("return document.querySelector('.notice')?.textContent.includes(arguments[0])", words)
        browser.reload()
        browser.click(".list .open")
        assert browser.text("#thread") == before


@pytest.mark.slow
def test_a_damaged_or_closed_store_does_not_stop_the_page(browser, bare_folder):
    with scripted(bare_folder, []) as (url, *_):
        browser.open(url)
        browser.ask("Kept")
        spoil = """
            const done = arguments[arguments.length - 1], request = indexedDB.open("glm4-edge", arguments[0]);
            request.onsuccess = () => {
              const table = request.result.transaction("conversations", "readwrite").objectStore("conversations");
              table.put({ id: "a" });
              table.put({ id: "b", messages: [{ role: "user<script>", content: 7 }] });
              table.transaction.oncomplete = () => { request.result.close(); done(); };
            };
        """
        browser.driver.execute_async_script(spoil, 1)
        browser.js("localStorage.setItem('glm4-edge.current', '{{{'); localStorage.setItem('glm4-edge.theme', '<b>')")
        browser.reload()
        assert browser.texts(".list .open") == ["Kept"]
        assert browser.text(".notice span") == "2 saved conversations are damaged and are not shown."
        browser.driver.execute_async_script(spoil, 2)  # as a later version would leave it
        browser.reload()
        assert "keeps nothing" in browser.text(".notice span")
        assert browser.ask("Still here?").startswith("I was sent")
        assert browser.texts(".list .open") == ["Still here?"]


def test_a_full_store_is_said(browser, bare_folder):
    with scripted(bare_folder, []) as (url, *_):
        browser.open(url)
        browser.cdp("Storage.overrideQuotaForOrigin", {"origin": url, "quotaSize": 1000})
        try:
            browser.js("document.querySelector('#prompt').value = 'x'.repeat(50_000)")
            assert browser.ask("!").startswith("I was sent")
            browser.until("return document.querySelector('.notice')?.textContent.includes('no room left')")
        finally:
            browser.cdp("Storage.overrideQuotaForOrigin", {"origin": url})


def test_chinese_and_english_light_and_dark(browser, bare_folder):
    with scripted(bare_folder, ["\n好的。"]) as (url, *_):
        browser.open(url, language="zh-CN")
        assert browser.js("return [document.documentElement.lang, document.querySelector('#prompt').placeholder]") == [
            "zh-Hans",
            "请输入消息",
        ]
        assert browser.text(".greeting h2") == "想了解什么？"
        browser.ask("您好")
        browser.click(".top [data-t-label=settings]")
        browser.type("English", "#set-language")
        browser.type("dark", "#set-theme")
        paper = "return getComputedStyle(document.body).backgroundColor"
        dark = browser.js(paper)
        browser.reload()
        assert browser.js("return [document.documentElement.lang, document.querySelector('#prompt').placeholder]") == [
            "en",
            "Write a message",
        ]
        assert browser.js(paper) == dark == "rgb(24, 26, 25)"
        browser.cdp("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]})
        assert browser.js(paper) == dark
        browser.click(".top [data-t-label=settings]")
        browser.type("as", "#set-theme")
        assert browser.js(paper) == "rgb(253, 253, 251)"


def test_both_languages_have_all_words(browser, bare_folder):
    source = (STATIC / "words.js").read_text(encoding="utf-8")
    english, chinese = (re.findall(r"^    (\w+): \"(.*)\",$", part, re.M) for part in source.split("\n  zh: {"))
    assert [key for key, _ in english] == [key for key, _ in chinese]
    for (key, one), (_, other) in zip(english, chinese, strict=True):
        assert set(re.findall(r"\{\w+\}", one)) == set(re.findall(r"\{\w+\}", other)), key
    used = {word for file in STATIC.glob("*.js") for word in re.findall(r"\"(\w+)\"", file.read_text(encoding="utf-8"))}
    used |= set(re.findall(r"data-t(?:-\w+)?=\"(\w+)\"", (STATIC / "index.html").read_text(encoding="utf-8")))
    assert {key for key, _ in english} <= used


def test_enter_while_a_word_is_composed_does_not_send(browser, bare_folder):
    with scripted(bare_folder, []) as (url, *_):
        browser.open(url)
        browser.js("document.querySelector('#prompt').focus()")
        browser.cdp("Input.imeSetComposition", {"text": "ni hao", "selectionStart": 6, "selectionEnd": 6})
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
        browser.cdp("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
        browser.cdp("Input.dispatchKeyEvent", {"type": "keyUp", **enter})
        composing = "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true})"
        browser.js(f"document.querySelector('#prompt').dispatchEvent({composing})")
        browser.cdp("Input.insertText", {"text": "你好"})
        assert browser.texts(".bubble") == []
        browser.type("\ue008\n")  # Shift+Enter
        browser.type("\ue000")
        assert browser.js("return document.querySelector('#prompt').value") == "你好\n"
        browser.ask("再见")
        assert browser.texts(".bubble") == ["你好\n再见"]


@pytest.mark.slow
def test_the_keyboard_reaches_everything_in_a_sensible_order(browser, bare_folder):
    with scripted(bare_folder, ["\nSee https://a.example/ and\n```\ncode\n```"]) as (url, *_):
        browser.open(url)
        browser.ask("Hi")
        browser.js("document.querySelector('.skip').focus()")
        named = (
            "const e = document.activeElement; return e.getAttribute('aria-label') || e.textContent.trim() || e.tagName"
        )
        order = [browser.js(named)]
        while order[-1] != "Message" and len(order) < 30:
            browser.driver.switch_to.active_element.send_keys("\ue004")
            order.append(browser.js(named))
            assert browser.js("return document.activeElement.matches(':focus-visible')"), order
        assert order == [
            "Skip to the message", "New chat", "Search", "Hi", "Rename", "Delete", "Settings", "Save this conversation",
            "Settings", "Conversation", "Copy", "Edit", "https://a.example/", "Copy the code", "code", "Copy",
            "Write it again", "Add a document", "Message",
        ]  # fmt: skip
        browser.js("document.querySelector('.skip').focus()")
        browser.driver.switch_to.active_element.send_keys("\n")
        assert browser.js("return document.activeElement === document.querySelector('#prompt')")


def test_screen_readers_hear_whole_replies_and_find_names_and_landmarks(browser, bare_folder):
    with scripted(bare_folder, [*CALL], tools=TOOLS) as (url, _, _engine):
        browser.open(url)
        browser.js(
            "window.heard = []; new MutationObserver(() => heard.push(spoken.textContent))"
            ".observe(spoken, {childList: true, characterData: true, subtree: true})"
        )
        browser.ask("What time is it in Oslo?")
        browser.until("return window.heard.length")
        assert set(browser.js("return window.heard")) == {"Reply: It is noon."}
        assert browser.js("return document.querySelectorAll('#thread [aria-live], #thread [role=log]').length") == 0
        for opened in (False, True):
            if opened:
                browser.click(".top [data-t-label=settings]")
            nodes = browser.cdp("Accessibility.getFullAXTree", {})["nodes"]
            shown = [node for node in nodes if not node["ignored"]]
            roles = [node["role"]["value"] for node in shown]
            unnamed = [
                node
                for node in shown
                if node["role"]["value"]
                in "button textbox searchbox combobox spinbutton link dialog navigation".split()
                and not node.get("name", {}).get("value")
            ]
            assert unnamed == []
            assert (
                {"dialog"} <= set(roles)
                if opened
                else {"main", "navigation", "banner", "form", "heading"} <= set(roles)
            )


def test_words_have_contrast(browser, bare_folder):
    """WCAG AA: 4.5 for text, by the colours of the style."""
    with scripted(bare_folder, []) as (url, *_):
        browser.open(url)
        for theme in ("light", "dark"):
            ratios = browser.js(
                """
                document.documentElement.dataset.theme = arguments[0];
                const colour = (name) => {
                  const e = document.createElement("i");
                  e.style.color = `var(--${name})`;
                  document.body.append(e);
                  const [r, g, b] = getComputedStyle(e).color.match(/[\\d.]+/g).map((x) => x / 255)
                    .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
                  e.remove();
                  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
                };
                return arguments[1].map(([one, other]) => {
                  const [dark, light] = [colour(one), colour(other)].sort((a, b) => a - b);
                  return (light + 0.05) / (dark + 0.05);
                });
                """,
                theme,
                PAIRS,
            )
            for pair, ratio in zip(PAIRS, ratios, strict=True):
                assert ratio >= (3 if "edge" in pair else 4.5), (theme, pair, ratio)


PAIRS = [
    *[(word, ground) for word in ("text", "muted", "accent") for ground in ("paper", "side", "raised", "sunken")],
    ("text", "bubble"), ("danger", "alarm"), ("danger", "raised"), ("danger", "sunken"), ("on-accent", "accent"),
    ("muted", "line"), ("edge", "paper"), ("edge", "raised"), ("accent", "bubble"),
    *[(f"code-{kind}", "sunken") for kind in ("keyword", "string", "number", "title")],
]  # fmt: skip


@pytest.mark.slow
def test_the_view_follows_unless_the_reader_scrolled_up(browser, bare_folder):
    with scripted(bare_folder, ["\n" + "line\n\n" * 60, "\n" + "more\n\n" * 400], pause=0.0) as (url, _, engine):
        browser.open(url)
        browser.ask("Go")
        end = "return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 5"
        browser.until(end)
        engine.pause = 0.004
        browser.type("More\n")
        browser.until("return document.querySelector('.turn:last-child .prose')?.children.length > 20")
        browser.until(end)
        browser.js("scroller.dispatchEvent(new WheelEvent('wheel')); scroller.scrollTop -= 300")
        place = browser.js("return scroller.scrollTop")
        count = browser.js("return document.querySelector('.turn:last-child .prose').children.length")
        browser.until(
            "return document.querySelector('.turn:last-child .prose').children.length > arguments[0]", count + 5
        )
        assert browser.js("return scroller.scrollTop") == place
        browser.click(".latest")
        browser.until(end)
        engine.pause = 0
        browser.replied()
        browser.until(end)


@pytest.mark.slow
def test_errors_say_the_cure_and_lose_no_word(browser, bare_folder):
    limits = Limits(running=1, waiting=0)
    with scripted(bare_folder, ["\nSlow." * 50, "\nGood."], pause=0.05, limits=limits) as (url, dispatcher, engine):
        browser.open(url)
        browser.type("Slow?\n")
        browser.until("return document.querySelector('.reply .prose')?.textContent.length > 3")
        browser.click(".new")
        browser.type("Me too\n")
        browser.until("return document.querySelector('.trouble')")
        assert browser.text(".trouble span") == "Too many are waiting for the model. Try again in 5 seconds."
        assert browser.texts(".bubble") == ["Me too"]
        browser.click(".list .open", 1)
        browser.click(".send")
        browser.replied()
        browser.click(".list .open", 1)
        browser.reload()
        engine.pause = 0
        (entry,) = dispatcher.pool.entries.values()
        until(lambda: entry.queue.running == 0)
        browser.click(".trouble .button")
        browser.until("return document.querySelector('.reply .prose')?.textContent === 'Good.'")
        assert browser.texts(".trouble") == []
        engine.max_prompt_tokens = 10
        browser.type("Longer\n")
        browser.until("return document.querySelector('.trouble')")
        assert "longer than the model can read" in browser.text(".trouble span")
    browser.type("Anybody?\n")  # the server is gone
    browser.until("return document.querySelector('.trouble:last-child')?.textContent.includes('does not answer')")
    assert browser.texts(".bubble")[-1] == "Anybody?"


@pytest.mark.slow
def test_a_server_that_is_killed_in_mid_reply_leaves_what_had_come(browser, demo_folder, tmp_path):
    with program(demo_folder.path, "--device", "CPU", log=tmp_path / "log") as (url, process):
        browser.open(url)
        settings(browser, **WILD)
        for asked in range(1, 20):  # so wild a reply may end at any word: it is held while the page is looked at
            browser.type("Who are you?\n")
            browser.until("return document.querySelectorAll('.turn.reply').length === arguments[0]", asked)
            browser.until(WRITING.replace("return", "return !document.querySelector('.busy') ||"))
            process.send_signal(signal.SIGSTOP)
            browser.driver.execute_async_script("setTimeout(arguments[0], 300)")  # what is on its way arrives
            if browser.js(WRITING):
                break
            process.send_signal(signal.SIGCONT)
            browser.replied()
        process.kill()
        browser.until("return document.querySelector('.trouble')")
        assert browser.text(".trouble span").startswith("The connection broke off; what had come is kept.")
        assert len(browser.text(".reply:last-child .prose")) > 5
        assert browser.texts(".bubble") == ["Who are you?"] * asked


@pytest.mark.slow
def test_an_engine_that_dies_is_said_and_the_reply_written_again(browser, served, endless, monkeypatch):
    url, dispatcher = served
    (entry,) = dispatcher.pool.entries.values()
    browser.open(url)
    settings(browser, temperature="1")
    browser.type("Who are you?\n")
    browser.until(WRITING)
    os.kill(entry.model.backend.pid, signal.SIGKILL)
    browser.until("return document.querySelector('.trouble')")
    assert "has died" in browser.text(".trouble span")
    monkeypatch.undo()
    settings(browser, temperature="0")
    browser.click(".trouble .button")
    browser.until("return !document.querySelector('.trouble')")
    assert "I am a tiny test model" in browser.replied()


def test_the_key_is_asked_for_and_kept_with_the_tab(browser, bare_folder):
    with scripted(bare_folder, [], api_key="secret") as (url, *_):
        browser.open(url)
        assert "requires an API key" in browser.text(".locked")
        browser.type("wrong\n", ".locked input")
        browser.until("return document.querySelector('.locked')?.textContent.includes('rejects this key')")
        browser.type("secret\n", ".locked input")
        browser.until("return document.querySelector('#prompt')")
        browser.ready()
        assert browser.ask("Hello").startswith("I was sent")
        assert browser.js("return JSON.stringify(localStorage).includes('secret')") is False
        browser.js("sessionStorage.clear()")
        browser.driver.get(f"{url}/#key=secret")
        browser.driver.refresh()
        browser.until("return document.querySelector('#prompt')")
        browser.ready()
        assert browser.driver.current_url == f"{url}/"


STILL = "return document.querySelector('.listed') && document.getAnimations().length === 0"


def test_it_fits_a_phone(browser, bare_folder):
    with scripted(
        bare_folder,
        ["\n" + "long" * 100 + "\n\n| a | b |\n|---|---|\n| " + "x" * 200 + " | y |\n\n```\n" + "z" * 300 + "\n```"],
    ) as (url, *_):
        browser.open(url)
        screen = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
        browser.cdp("Emulation.setDeviceMetricsOverride", screen)
        try:
            browser.ask("Hi")
            assert browser.js("return document.documentElement.scrollWidth") == 360
            assert browser.js("return scroller.scrollWidth <= scroller.clientWidth")
            browser.click(".top [data-t-label=menu]")
            browser.until(STILL)  # the list slides in
            browser.click(".list .open")
            browser.until("return !document.querySelector('.listed')")
        finally:
            browser.cdp("Emulation.clearDeviceMetricsOverride", {})


def test_a_model_is_set_for_each_conversation(browser, bare_folder, tmp_path):
    second = shutil.copytree(bare_folder.path, tmp_path / "second")
    with serving_ours(bare_folder.path, second, device="ECHO") as (url, dispatcher):
        first, other = dispatcher.pool.entries.values()
        browser.open(url)
        browser.ask("Hello")
        assert (first.model is not None, other.model) == (True, None)
        browser.type("second", ".model")
        browser.ask("Hello again")
        assert other.model is not None
        browser.click(".new")
        assert browser.js("return document.querySelector('.model').value") == "second"
        browser.click(".model")
        browser.type("bare", ".model")
        browser.ask("And a third time")
        browser.click(".list .open", 1)
        assert browser.js("return document.querySelector('.model').value") == "second"


def test_models_are_listed_with_their_state(browser, bare_folder, tmp_path):
    second = shutil.copytree(bare_folder.path, tmp_path / "second")
    with serving_ours(bare_folder.path, second, device="ECHO") as (url, dispatcher):
        first, _ = dispatcher.pool.entries.values()
        browser.open(url)
        assert [text.split(" · ")[::2] for text in browser.texts(".top .model option")] == [
            ["bare", "not loaded"], ["second", "not loaded"],
        ]  # fmt: skip
        kilobytes = sum(file.size for file in bare_folder.manifest.files.values()) / 1000
        assert f" · {kilobytes:.1f} kB · " in browser.text(".top .model option")
        first.loading = True
        browser.js("document.querySelector('.top .model').focus()")
        browser.until("return document.querySelector('.top .model option').textContent.endsWith('loading …')")
        first.report(Progress("load", done=300, total=1000))
        browser.js("document.querySelector('.top .model').blur()")
        browser.js("document.querySelector('.top .model').focus()")
        browser.until("return document.querySelector('.top .model option').textContent.endsWith('loading: 30 %')")
        first.loading, first.progress = False, None
        browser.ask("Hello")
        browser.until("return document.querySelector('.top .model option').textContent.endsWith(' loaded')")


def test_loading_a_model_is_shown(browser, bare_folder):
    with scripted(bare_folder, ["\nSlow."], pause=0.0) as (url, dispatcher, engine):
        (entry,) = dispatcher.pool.entries.values()
        browser.open(url)
        engine.pause = 3
        entry.loading = True
        browser.type("Hello\n")
        browser.until("return /^bare is being loaded: [1-9] s$/.test(document.querySelector('.looking')?.textContent)")
        entry.report(Progress("load", done=42, total=100))
        browser.until(
            "return /^bare is being loaded: 42 %, [1-9] s$/.test(document.querySelector('.looking').textContent)"
        )
        entry.loading, entry.progress = False, None
        engine.pause = 0
        browser.replied()
        assert browser.all(".looking") == []


class Tiny(Echo):
    """An engine whose context holds a question or two."""

    def __init__(self, replies):
        super().__init__(replies, max_prompt_tokens=400)


@pytest.mark.slow
def test_messages_that_no_longer_fit_are_told_of(browser, bare_folder):
    """The line is above the first question that is in the prompt; a system prompt does not move it."""
    with scripted(bare_folder, ["\n" + "one " * 60] * 4, engine=Tiny) as (url, _, engine):
        browser.open(url)
        settings(browser, system="Be brief.")
        for number in range(4):
            browser.ask(f"Question {number}?")
            prompt = spelled(engine.requests[-1].prompt)
            first = next(one for one in range(4) if f"Question {one}?" in prompt)
            below = browser.texts(".unread + .turn .bubble")
            assert below == ([f"Question {first}?"] if first else [])
        count = browser.text(".unread")
        assert count == f"The first {2 * first} messages no longer fit and are not read."
        browser.reload()
        assert browser.text(".unread") == count


def test_a_reply_that_a_reload_cuts_off_is_kept(browser, bare_folder):
    with scripted(bare_folder, ["\nThe reply, slowly."], pause=0.05) as (url, dispatcher, _engine):
        (entry,) = dispatcher.pool.entries.values()
        browser.open(url)
        browser.type("Hello\n")
        browser.until("return document.querySelector('.reply .prose')?.textContent.length > 5")
        browser.reload()
        assert browser.text(".reply .prose").startswith("The r")
        assert "broke off" in browser.text(".reply .note")
        until(lambda: entry.queue.running == 0)


# What came to the first of the browsers that the document names after the version that it names.
LATER = (
    r"Promise\.try|\bnew Set\b.*\.(union|intersection)\(|Iterator\.from|Float16Array|RegExp\.escape|Error\.isError|"
    r"Uint8Array\.fromBase64|\bURL\.parse\(|@starting-style|@position-try|anchor-name|interpolate-size|@view-transition|"
    r"\bcalc-size\(|\breading-flow|@function\b|\bif\(style|closedby=|command=|commandfor="
)


def test_it_uses_nothing_newer_than_the_browsers_that_it_needs():
    """light-dark() is what it needs Chrome 123 and Safari 17.5 for, the popover Firefox 125."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in STATIC.glob("*.*")}
    assert "light-dark(" in texts["page.css"]
    assert "popover" in texts["main.js"]
    assert not [name for name, text in texts.items() if re.search(LATER, text)]
