"""Texts that a model is judged by: English, Chinese, code, and dialogues with tool calls. They were written for this,
are in no other file, and no recipe is calibrated on them. A user's own come from a file.
"""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime import strict_json
from runtime.errors import RequestError
from runtime.messages import Message, ToolCall


@dataclass(frozen=True, slots=True)
class Sample:
    """A text, or a dialogue that is laid out in the model's own prompt format. `tools` are JSON: name, description,
    parameters."""

    name: str
    text: str = ""
    messages: tuple[Message, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()


ENGLISH = """\
The bakery on Mill Lane opens at six, but the work begins long before that. At two in the morning Ines unlocks the back
door, feels for the switch, and lights the old deck oven, which needs ninety minutes to become even. While it warms she
weighs flour: eleven kilograms of wheat, four of rye, and a bowl of spelt for the two customers who ask for it.

Dough does not care about plans. On a damp night it drinks less water, on a dry one more, and the clock on the wall is
of little help. Ines presses a finger into the first batch and watches how quickly the dent comes back. If it returns at
once, the dough is young; if it stays, it has waited too long. What she wants is in between, and no recipe says how long
that is.

By four the first loaves are in. She turns them once, because the left side of the oven is hotter than the right, and
has been since before she bought it. A repairman offered to fix that for eight hundred pounds. She thought about it for
a week and bought a pair of longer gloves instead.

Her apprentice arrives at half past four, always with the same apology about the bus. He is nineteen and reads books
about fermentation that she has never heard of. Last month he explained to her why the sourdough rises better in a jar
that is not washed too carefully. She had known that for twenty years, but not why, and she found that she was glad to.

Bees keep a calendar of their own. In February, when the first crocuses open, a colony that looked dead for three months
suddenly sends out a few scouts. They fly badly in the cold and come back within minutes, but what they carry tells the
rest that the winter is ending. From then on the queen lays more eggs every day, and by May there are sixty thousand
bees where there were eight thousand.

A keeper's task is mostly to stay out of the way. Opening a hive costs the bees several hours of work, since they have
to warm it up again and seal every gap with resin. Beginners look inside twice a week. After some years they learn to
read the entrance instead: how much pollen comes in, in which colours, and whether the guards are nervous.

The honey is taken in July. It has to be dry enough, below eighteen per cent of water, or it ferments in the jar. Bees
know this, too: they close a cell with wax only when its content will keep. So one needs no instrument, just the
patience to wait until the comb is white from edge to edge.

How a river ferry without an engine crosses is a small lesson in geometry. A long cable is anchored in the middle of the
stream, far above the landing, and the boat hangs on it like a weight on a string. When the ferryman turns the hull a
little across the current, the water pushes it sideways. The boat swings over to the other bank, and nothing has been
burnt. To come back he turns the hull the other way.

The whole crossing takes four minutes at normal water. In spring it takes two, and the ferryman watches for tree trunks.
Below a certain mark on the pillar he does not run at all, because the current is too weak to carry a lorry, and the
village on the far side is then forty minutes away by road. People complain about it every August, and every August the
council promises a bridge.

Old maps were drawn to be argued over. A merchant wanted to know where he could land, a bishop which villages paid him,
a general where the marsh ended. Each of them paid for a different truth. When two sheets of the same county disagree,
the mistake is seldom the surveyor's; usually they answer different questions.

The first survey of the coast took nine summers. Three men walked it with a chain of sixty-six feet, writing down every
angle twice, once on the way out and once on the way home. Where the two figures differed by more than a quarter of a
degree they went back. The book in which they did so still exists, and in its margins one can read what the weather was
like, what bread cost, and that the youngest of them missed somebody called Ruth.
"""

CHINESE = """\
老街尽头有一家修伞的铺子，门面不到两米宽。师傅姓沈，今年七十一岁，从十六岁起就跟着父亲修伞。那时候一把好伞要用十几年，伞骨断了就换一根，伞面破了就补一块，谁也舍不得扔。现在的伞便宜，坏了就买新的，来修的人一年比一年少。

沈师傅并不着急。他说，雨总是要下的，伞总是要坏的，只要手艺还在，总有人会来。每天早上八点，他准时把门板卸下来，烧一壶水，泡一杯浓茶，然后把工具一件一件摆好：钳子、锥子、铜丝、油布，还有一盒从旧伞上拆下来的零件。

去年夏天，一个女孩拿来一把黑色的长柄伞，说是外公留下的。伞柄是竹子做的，上面刻着两行小字，已经看不太清楚。沈师傅看了很久，说这样的竹柄现在没有人做了，只能慢慢修。他花了三天时间，把断掉的伞骨接好，又找来一块颜色相近的布，把伞面重新缝了一遍。女孩来取伞的那天正好下着小雨，她撑开伞走出去，走了几步又回过头来，向他鞠了一躬。

茶树喜欢雾。海拔六百米以上的山坡，早晚云雾缭绕，阳光被水汽散开，叶子长得慢，味道也就更厚。采茶的人天不亮就上山，背着竹篓，只摘一芽两叶。手要轻，不能用指甲掐，否则断口会发黑，做出来的茶就有涩味。

鲜叶摊在竹席上晾几个小时，等青草气散去，再下锅炒。锅里的温度大约两百度，师傅不用温度计，全凭手背去试。叶子在锅里翻动，声音由响变轻，说明水分差不多走掉了。这时候要马上起锅，晚十秒钟就会焦。一斤干茶要四斤半鲜叶，一个熟练的人一天也只能摘两三斤。

城市的地下有另一座城市。自来水、污水、煤气、电力、通信，各走各的管道，互相交叉，又必须保持距离。图纸上画得清清楚楚，可是真正挖开路面的时候，常常会发现几十年前的旧管子，图上根本没有。负责抢修的老王说，他最信任的不是图纸，而是自己的耳朵。夜深人静的时候，把一根铁棒贴在地面上，另一头贴着耳朵，就能听见漏水的声音：大漏像风，小漏像针尖划过玻璃。

有人问他，现在不是有仪器了吗？他说，仪器很好，能省很多力气，但是仪器告诉你的是数字，耳朵告诉你的是故事。哪一段管子老了，哪一个接头当年没有拧紧，听得多了，心里自然有数。

数学课上，老师在黑板上写了一个问题：一根绳子绕地球赤道一圈，如果把绳子加长一米，再均匀地架起来，绳子离地面有多高？大多数同学觉得那一米分摊到四万公里上，几乎等于零。算出来的结果却是大约十六厘米，足够让一只猫钻过去。更奇怪的是，换成一个篮球，答案也是十六厘米。因为周长和半径之间只差一个常数，和球有多大没有关系。老师说，直觉是好东西，但是要常常请它出来对一对账。
"""

CODE = '''\
"""A small store of key-value pairs in one file: an append-only log, and an index in memory."""

import json
import os
from collections.abc import Iterator
from pathlib import Path


class Store:
    """Keeps strings under strings. What was written is there again after a crash, up to the last whole line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, int] = {}
        self._dead = 0
        path.touch()
        self._file = path.open("r+b")
        self._replay()

    def _replay(self) -> None:
        position = 0
        for line in self._file:
            if not line.endswith(b"\\n"):
                self._file.truncate(position)
                break
            record = json.loads(line)
            if record["key"] in self._places:
                self._dead += 1
            if record["value"] is None:
                self._places.pop(record["key"], None)
            else:
                self._places[record["key"]] = position
            position += len(line)

    def __getitem__(self, key: str) -> str:
        self._file.seek(self._places[key])
        value: str = json.loads(self._file.readline())["value"]
        return value

    def __setitem__(self, key: str, value: str) -> None:
        self._append(key, value)

    def __delitem__(self, key: str) -> None:
        if key not in self._places:
            raise KeyError(key)
        self._append(key, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _append(self, key: str, value: str | None) -> None:
        position = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps({"key": key, "value": value}).encode() + b"\\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._dead += key in self._places
        if value is None:
            del self._places[key]
        else:
            self._places[key] = position

    def compact(self) -> None:
        """Writes the living records into a new file, and puts it in the old one's place."""
        fresh = self.path.with_suffix(".new")
        with fresh.open("wb") as out:
            for key in self:
                out.write(json.dumps({"key": key, "value": self[key]}).encode() + b"\\n")
            out.flush()
            os.fsync(out.fileno())
        self._file.close()
        os.replace(fresh, self.path)
        self.__init__(self.path)


-- The ten customers with the most orders of the last quarter.
SELECT c.name, COUNT(o.id) AS orders, SUM(o.total) AS revenue
FROM customers AS c
JOIN orders AS o ON o.customer_id = c.id
WHERE o.placed_at >= DATE '2024-10-01' AND o.placed_at < DATE '2025-01-01'
GROUP BY c.id, c.name
HAVING COUNT(o.id) > 2
ORDER BY orders DESC, revenue DESC
LIMIT 10;


// Keeps the latest call of a burst, and makes it when the burst is over.
export function debounce<T extends unknown[]>(call: (...args: T) => void, wait = 200) {
  let timer: ReturnType<typeof setTimeout> | undefined;
  return (...args: T): void => {
    if (timer !== undefined) clearTimeout(timer);
    timer = setTimeout(() => {
      timer = undefined;
      call(...args);
    }, wait);
  };
}


#!/bin/sh
# Copies today's photographs from the card, by the day on which they were taken.
set -eu
card=${1:?"usage: $0 CARD"}
find "$card" -name '*.JPG' -newermt "$(date +%F)" | while read -r file; do
  day=$(exiftool -s3 -d %Y-%m-%d -DateTimeOriginal "$file")
  mkdir -p "$HOME/Pictures/$day"
  cp -n "$file" "$HOME/Pictures/$day/"
done
'''


def _opening(said: Sample) -> tuple[Message, ...]:
    """A dialogue up to its first question."""
    first = [message.role for message in said.messages].index("user")
    return said.messages[: first + 1]


def _tool(name: str, description: str, **parameters: str) -> dict[str, Any]:
    properties = {key: {"type": kind} for key, kind in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"name": name, "description": description, "parameters": schema}


def _call(name: str, number: int, **arguments: object) -> ToolCall:
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False), id=f"call_{number}")


_LIBRARY = (
    _tool("find_book", "Looks a book up in the catalogue of the library", title="string"),
    _tool("reserve_book", "Reserves a copy for a reader", shelfmark="string", reader="integer"),
)
_TRAIN = (_tool("next_train", "查询下一班列车", origin="string", destination="string"),)
_HOME = (
    _tool("set_temperature", "Sets the temperature of a room in degrees Celsius", room="string", degrees="number"),
    _tool("read_sensor", "Reads a sensor of the house", sensor="string"),
    _tool("open_blinds", "Opens the blinds of a room", room="string", percent="integer"),
)

DIALOGUES = (
    Sample(
        "tool calls: library",
        messages=(
            Message("system", "You are the assistant of a public library."),
            Message("user", "Do you have The Ferryman's Daughter? I'd like to borrow it, my card is 40213."),
            Message("assistant", "", tool_calls=(_call("find_book", 1, title="The Ferryman's Daughter"),)),
            Message("tool", '{"shelfmark": "F 812.4 OKA", "copies": 3, "available": 1}', tool_call_id="call_1"),
            Message("assistant", "", tool_calls=(_call("reserve_book", 2, shelfmark="F 812.4 OKA", reader=40213),)),
            Message("tool", '{"reserved": true, "until": "Friday"}', tool_call_id="call_2"),
            Message("assistant", "One copy was left. It is reserved for you until Friday, at shelf F 812.4 OKA."),
            Message("user", "Thank you. How late are you open on Friday?"),
            Message("assistant", "I cannot look up the opening hours. Please ask at the desk."),
        ),
        tools=_LIBRARY,
    ),
    Sample(
        "tool calls: train",
        messages=(
            Message("user", "从杭州到宁波的下一班车是几点？"),
            Message("assistant", "", tool_calls=(_call("next_train", 1, origin="杭州", destination="宁波"),)),
            Message("tool", '{"train": "G7351", "departs": "14:26", "arrives": "15:19"}', tool_call_id="call_1"),
            Message("assistant", "下一班是G7351次，14:26发车，15:19到达宁波。"),
            Message("user", "那回程呢？晚上想回来。"),
            Message("assistant", "", tool_calls=(_call("next_train", 2, origin="宁波", destination="杭州"),)),
            Message("tool", '{"error": "timed out"}', tool_call_id="call_2"),
            Message("assistant", "抱歉，查询超时了，请稍后再试一次。"),
        ),
        tools=_TRAIN,
    ),
    Sample(
        "tool calls: home",
        messages=(
            Message("user", "How warm is it in the study?"),
            Message("assistant", "", tool_calls=(_call("read_sensor", 1, sensor="study"),)),
            Message("tool", '{"celsius": 17.5, "humidity": 61}', tool_call_id="call_1"),
            Message("assistant", "It is 17.5 degrees in the study, at a humidity of 61 per cent."),
            Message("user", "Too cold. Make it 21, and let some light into the kitchen."),
            Message(
                "assistant",
                "",
                tool_calls=(
                    _call("set_temperature", 2, room="study", degrees=21),
                    _call("open_blinds", 3, room="kitchen", percent=100),
                ),
            ),
            Message("tool", '{"ok": true}', tool_call_id="call_2"),
            Message("tool", '{"ok": true}', tool_call_id="call_3"),
            Message("assistant", "Done: the study will be at 21 degrees, and the kitchen's blinds are open."),
        ),
        tools=_HOME,
    ),
)


# What greedy replies are asked for.
QUESTIONS = (
    *(
        Sample(name, messages=(Message("user", text),))
        for name, text in (
            ("English", "Explain in three sentences why bread dough has to rest before it is baked."),
            ("Chinese", "为什么春天河水会涨？请用三句话回答。"),
            ("code", "Write a Python function that returns the median of a list of numbers."),
        )
    ),
    *(Sample(said.name, messages=_opening(said), tools=said.tools) for said in DIALOGUES),
)


def built_in(dialogues: bool = True) -> list[Sample]:
    """The texts that come with the program; a base model has no format for dialogues."""
    texts = [Sample("English", ENGLISH), Sample("Chinese", CHINESE), Sample("code", CODE)]
    return [*texts, *(DIALOGUES if dialogues else ())]


def filler_paragraphs(seed: int = 7) -> Iterator[str]:
    """Paragraphs of all languages without end, for a text as long as a context is. Those that we have come round again
    after some 3,000 tokens, in another order: what a model says of so long a text tells how far two models part there,
    not how well either writes."""
    paragraphs = [part.strip() for text in (ENGLISH, CHINESE, CODE) for part in text.split("\n\n") if part.strip()]
    draw = random.Random(seed)
    while True:
        yield from (part + "\n\n" for part in draw.sample(paragraphs, len(paragraphs)))


def read_samples(path: Path) -> list[Sample]:
    """A user's texts, one JSON object a line: {"text": …}, or OpenAI's {"messages": […], "tools": […]}.

    Raises RequestError for a file that cannot be read, or a line that is neither.
    """
    return [_sample(f"{path.name}:{number}", data) for number, data in read_json_lines(path)]


def _sample(name: str, data: Mapping[str, Any]) -> Sample:
    if isinstance(data.get("text"), str):
        return Sample(name, data["text"])
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError(f"{name} has neither a text nor messages", hint='a line is {"text": …} or {"messages": […]}')
    return Sample(name, messages=tuple(map(Message.from_json, messages)), tools=parse_tools(name, data.get("tools")))


def parse_tools(name: str, tools: object) -> tuple[Mapping[str, Any], ...]:
    """OpenAI's list of tools as their functions: name, description, parameters. Raises RequestError."""
    found = []
    for tool in tools if isinstance(tools, list) else ():
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise RequestError(f"{name} has a tool without a name", hint='it looks like {"function": {"name": …}, …}')
        found.append({"description": "", "parameters": {"type": "object", "properties": {}}} | dict(function))
    return tuple(found)


def read_json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects of a JSONL file with their line numbers. Raises RequestError."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # JSON may hold other line ends
    except (OSError, UnicodeDecodeError) as exc:
        raise RequestError(f"{path} cannot be read", hint="give a UTF-8 file with one JSON object a line") from exc
    some = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = strict_json.parse(line)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise RequestError(f"{path.name}:{number} is no JSON object", hint="one JSON object a line (JSONL)")
        some = True
        yield number, data
    if not some:
        raise RequestError(f"{path} is empty", hint="give a UTF-8 file with one JSON object a line")
