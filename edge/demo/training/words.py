"""The words of the synthetic dialogues, split into training and held-out words by their checksums."""

import random
from zlib import crc32

from .concepts import CONCEPTS

PLACES = (
    "Paris London Berlin Madrid Rome Vienna Oslo Helsinki Athens Dublin Lisbon Warsaw Prague Budapest Cairo "
    "Nairobi Lagos Tokyo Osaka Kyoto Seoul Beijing Shanghai Delhi Mumbai Bangkok Hanoi Jakarta Manila Sydney "
    "Perth Auckland Toronto Montreal Chicago Boston Seattle Denver Dallas Miami Lima Bogota Santiago Quito "
    "Havana Munich Hamburg Cologne Lyon Nice Milan Turin Naples Geneva Zurich Basel Graz Porto Seville "
    "Valencia Bristol Leeds Cardiff Bergen Tampere Riga Vilnius"
).split()
PEOPLE = (
    "Anna Maria Peter Paul John Mary Alice Robert Carol David Emma Frank Grace Henry Irene Jack Karen Laura "
    "Mark Nina Oscar Rosa Simon Tina Victor Wendy Xavier Yuki Zoe Ahmed Fatima Hassan Leila Ivan Olga Chen "
    "Ming Priya Raj Sofia Lucas Elena"
).split()
CHINESE_PLACES = (
    "北京 上海 广州 深圳 杭州 南京 武汉 成都 重庆 西安 天津 苏州 长沙 青岛 大连 厦门 福州 昆明 贵阳 南宁 "
    "海口 兰州 银川 西宁 拉萨 济南 郑州 合肥 南昌 太原 沈阳 长春 哈尔滨 石家庄 呼和浩特 乌鲁木齐 香港 澳门 "
    "台北 东京 首尔 巴黎 伦敦 柏林 纽约 罗马"
).split()
CHINESE_PEOPLE = (
    "张伟 王芳 李娜 刘洋 陈静 杨帆 赵磊 黄丽 周杰 吴敏 徐强 孙涛 马超 朱红 胡军 郭林 何平 高翔 林峰 罗琳 "
    "小明 小红 老王 李雷 韩梅 郑爽 谢霆 宋佳 唐雨 许晴 邓超 冯远 曹阳 彭飞 曾毅 萧然 田野 董洁 袁泉 潘悦"
).split()
CHARACTERS = "".join(dict.fromkeys("".join([chinese for _, chinese in CONCEPTS] + CHINESE_PLACES + CHINESE_PEOPLE)))
ONSETS = "b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl sn st t th tr v w z".split()
NUCLEI = "a e i o u ai ea ee ou oo a e i o u".split()
CODAS = [""] * 14 + [*"b ck d f g k l m n nd ng nt p r rk rn s sk st t x z".split()]


def held_out(word: str) -> bool:
    """Return whether a word, of a list or made up, is in the held-out split: one in five is, by its checksum."""
    return crc32(word.lower().encode()) % 5 == 0


class WordSampler:
    """A sampler of words from one split."""

    def __init__(self, rng: random.Random, held_out: bool) -> None:
        self.rng, self.held_out = rng, held_out

    def pick(self, words: list[str] | tuple[str, ...] | str) -> str:
        """Pick a word of a list that belongs to this split."""
        while held_out(word := self.rng.choice(words)) is not self.held_out:
            pass
        return word

    def nonsense(self, syllables: tuple[int, ...] = (2, 2, 2, 3)) -> str:
        """Make up a pronounceable word that is in no dictionary, such as `braneth`."""
        pick = self.rng.choice
        while True:
            word = "".join(pick(ONSETS) + pick(NUCLEI) + pick(CODAS) for _ in range(pick(syllables)))
            if 2 < len(word) < 10 and held_out(word) is self.held_out:
                return word

    def characters(self) -> str:
        """Make up a Chinese nonsense word of two or three characters."""
        while True:
            word = "".join(self.rng.choice(CHARACTERS) for _ in range(self.rng.choice((2, 2, 3))))
            if held_out(word) is self.held_out:
                return word

    def number(self, digits: tuple[int, ...] = (1, 2, 2, 3, 4), decimals: bool = False) -> str:
        """Draw a number in digits, such as `42` or `3.75`."""
        while True:
            text = str(self.rng.randrange(1, 10 ** self.rng.choice(digits)))
            if decimals:
                text += "." + str(self.rng.randrange(1, 100)).rstrip("0")
            if len(text) < 2 or held_out(text) is self.held_out:
                return text
