"""How questions speak of arguments and of tools: tables, in English and Chinese."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of argument: its JSON type, the parameter names it goes by, and how a question brings it up.

    `cues` are clear in any company; `lone` ones only where the tool has no other parameter. `{v}` is the value, `{n}`
    the parameter's name in words.
    """

    type: str
    names: tuple[tuple[str, str], ...]
    cues: tuple[str, ...]
    lone: tuple[str, ...] = ()


def _kind(type: str, names: str, cues: str, lone: str = "") -> Kind:
    pairs = (pair.partition("=")[::2] for pair in names.split())
    return Kind(type, tuple(pairs), tuple(cues.split(" | ")), tuple(lone.split(" | ")) if lone else ())


KINDS = {
    "place": _kind(
        "string",
        "city=城市 place=地点 location=位置 town=城镇 station=车站 area=地区",
        "in {v} | at {v} | near {v} | in {v}",
        "for {v} | of {v} | {v} | around {v}",
    ),
    "person": _kind(
        "string",
        "name=姓名 person=人员 user=用户 guest=客人 recipient=收件人 owner=所有者",
        "for {v} | for {v} | of {v}",
        "to {v} | with {v} | {v}",
    ),
    "count": _kind(
        "integer",
        "people=人数 nights=晚数 minutes=分钟 days=天数 copies=份数 seats=座位数",
        "for {v} {n} | with {v} {n} | {v} {n}",
        "{n} {v} | for {v} | by {v}",
    ),
    "amount": _kind(
        "number",
        "amount=金额 price=价格 level=级别 limit=上限 value=数值 percent=百分比",
        "with {n} {v} | {n} {v} | at {n} {v} | with a {n} of {v}",
        "to {v} | of {v} | at {v}",
    ),
    "code": _kind(
        "string",
        "id=编号 code=代码 number=号码 reference=单号 key=键 order_id=订单号",
        "{v} | number {v} | with {n} {v} | {n} {v}",
        "for {v} | of {v}",
    ),
    "date": _kind(
        "string",
        "date=日期 day=日子 since=起始日期",
        "on {v} | for {v} | on {v}",
    ),
    "time": _kind(
        "string",
        "time=时间 start=开始时间 hour=钟点",
        "at {v} | at {v} | from {v} on",
    ),
    "path": _kind(
        "string",
        "path=路径 folder=文件夹 file=文件名 directory=目录 drive=盘符 filename=文件名",
        "on {v} | under {v} | on {v}",
        "in {v} | of {v} | for {v} | at {v} | {v}",
    ),
    "email": _kind(
        "string",
        "email=邮箱 address=地址 to=收件人",
        "to {v} | from {v}",
    ),
    "text": _kind(
        "string",
        "text=文本 message=消息 query=关键词 title=标题 note=备注 content=内容",
        "saying '{v}' | '{v}' | called '{v}' | with {n} '{v}'",
        ": {v} | : {v} | called {v} | for '{v}' | about {v}",
    ),
    "choice": _kind(
        "choice",
        "unit=单位 mode=模式 kind=种类 size=大小 format=格式 priority=优先级",
        "with {n} {v} | {n} {v} | as {v}",
        "in {v} | {v}",
    ),
    "flag": _kind(
        "boolean",
        "breakfast=早餐 details=详情 history=历史 returns=退货 images=图片 extras=附加项",
        "{v} {n}",
    ),
    "free": _kind(
        "string",
        "item=物品 word=词 symbol=代号 topic=主题 colour=颜色 target=目标",
        "with {n} {v} | {n} {v} | whose {n} is {v} | with {n}={v}",
        "of {v} | for {v} | {v} | on {v} | from {v}",
    ),
}
PAIRS = (
    ("origin", "destination"),
    ("source", "target"),
    ("start", "end"),
    ("from_city", "to_city"),
    ("a", "b"),
    ("first", "last"),
)
CHINESE_PAIRS = (
    ("起点", "终点"),
    ("来源", "目标"),
    ("开始", "结束"),
    ("出发城市", "到达城市"),
    ("甲", "乙"),
    ("第一个", "最后一个"),
)
QUERY_VERBS = ("get", "find", "check", "show", "lookup", "read", "query", "fetch")
VERBS = (
    "book order cancel start stop open close send create delete set add play move lock reset print save share rename "
    "reserve update remove call schedule"
).split()
CHINESE_VERBS = (
    "预订 取消 启动 停止 打开 关闭 发送 创建 删除 设置 添加 播放 移动 锁定 重置 打印 保存 分享 更新 安排".split()
)
QUESTIONS = (
    "What is the {c}{a}?",
    "What is the {c}{a}?",
    "What's the {c}{a}?",
    "Show me the {c}{a}.",
    "Tell me the {c}{a}.",
    "How is the {c}{a}?",
    "I need the {c}{a}.",
    "Can you find the {c}{a}?",
    "Look up the {c}{a}.",
    "{c}{a}?",
    "Do you know the {c}{a}?",
    "Is there any {c}{a}?",
    "How much {c} is there{a}?",
    "How many {c}s are there{a}?",
    "How many {c}s do you see{a}?",
    "Check the {c}{a}.",
    "Which {c}s are there{a}?",
    "Give me the {c}{a}.",
)
SPLIT_QUESTIONS = ("How much {y} is {x}{a}?", "Which {y} is {x}{a}?", "How many {y} are {x}{a}?", "Is any {y} {x}{a}?")
FILLERS = ("space", "data", "value", "cores", "status", "details", "list", "records", "state", "info")
ENDINGS = (
    " of this computer",
    " of this machine",
    " right now",
    " as text",
    " for today",
    " on the screen",
    " from the archive",
)
COMMANDS = (
    "{v} the {c}{a}.",
    "{v} a {c}{a}.",
    "Please {v} the {c}{a}.",
    "Can you {v} the {c}{a}?",
    "I want to {v} a {c}{a}.",
)
CHINESE_QUESTIONS = (
    "{a}{c}是多少？",
    "查一下{a}{c}",
    "查询{a}{c}",
    "我想知道{a}{c}",
    "请告诉我{a}{c}",
    "帮我看看{a}{c}",
    "{a}{c}怎么样？",
    "{a}{c}？",
)
CHINESE_COMMANDS = ("帮我{v}{a}{c}", "请{v}{a}{c}", "{v}{a}{c}", "我要{v}{a}{c}", "可以{v}{a}{c}吗？")
