"""The words that the synthetic dialogues are made of, and the rule that keeps training and held-out words apart."""

import random
from zlib import crc32

NOUNS = (
    "weather temperature humidity forecast exchange-rate stock-price train bus flight ferry hotel room table "
    "seat meeting calendar reminder alarm timer light lamp door window heater fan pump printer scanner "
    "camera speaker volume brightness channel song playlist movie book recipe meal menu pizza salad drink "
    "coffee-machine invoice order parcel delivery package shipment stock inventory warehouse product "
    "discount coupon loan account balance payment salary tax budget report document file folder backup "
    "disk-usage memory processor battery network router server database log error ticket-queue password user "
    "profile contact message email letter note photo video map route distance traffic bridge tunnel station "
    "airport harbour museum gallery concert theatre stadium match score league player team doctor nurse "
    "patient medicine dose allergy appointment clinic hospital pharmacy teacher student course lesson exam "
    "grade library dictionary translation language spelling synonym poem story joke quote news headline "
    "article paper author painter planet star moon sunrise sunset tide earthquake storm snow rain wind "
    "air-quality pollen river lake mountain forest farm crop harvest tractor engine fuel tyre garage taxi "
    "bicycle scooter charger solar-panel meter water gas electricity bill contract insurance claim lawyer "
    "court vote city-hall passport visa luggage gate boarding crew pilot captain ship cargo container crane "
    "robot drone sensor valve pressure speed weight height length area depth noise signal antenna satellite "
    "rocket launch orbit telescope free space page word line letter-count square root sum average median "
    "random colour size shape label barcode branch commit issue release build test deployment cluster queue "
    "topic event webhook schedule shift vacation holiday birthday party guest gift cake flower garden plant "
    "tree seed fish cat horse sheep cow chicken egg milk cheese bread butter sugar salt rice soup tea juice "
    "wine beer shirt shoe coat hat ring watch necklace"
).split()
CHINESE_NOUNS = (
    "天气 温度 湿度 预报 汇率 股价 火车 公交 航班 轮渡 酒店 房间 餐桌 座位 会议 日历 提醒 闹钟 灯光 房门 "
    "窗户 暖气 风扇 水泵 打印机 相机 音量 亮度 频道 歌曲 电影 图书 菜谱 菜单 饮料 发票 订单 包裹 快递 库存 "
    "仓库 商品 折扣 贷款 账户 余额 工资 税款 预算 报告 文档 文件 备份 磁盘 内存 电池 网络 服务器 数据库 日志 "
    "用户 联系人 消息 邮件 笔记 照片 视频 地图 路线 距离 路况 桥梁 车站 机场 港口 博物馆 音乐会 剧院 比赛 "
    "比分 球队 医生 病人 药品 剂量 预约 诊所 医院 老师 学生 课程 考试 成绩 词典 翻译 拼写 诗歌 故事 笑话 "
    "新闻 文章 作者 行星 月亮 日出 日落 潮汐 地震 风暴 降雪 降雨 风速 空气质量 河流 湖泊 森林 农场 收成 "
    "发动机 油价 轮胎 出租车 自行车 充电桩 电表 水费 煤气 电费 合同 保险 律师 护照 签证 行李 登机口 船舶 "
    "货物 集装箱 机器人 无人机 传感器 阀门 压力 速度 重量 高度 长度 面积 深度 噪音 信号 卫星 火箭 轨道 空间 "
    "页数 字数 平均值 颜色 尺寸 标签 条码 分支 版本 构建 测试 集群 队列 事件 排班 假期 生日 聚会 客人 礼品 "
    "蛋糕 花园 植物 种子 牛奶 面包 茶叶 果汁 衬衫 鞋子 手表 人口 海拔 邮编 电话 地址 职位 工龄 部门 项目 "
    "进度 任务 电量 流量 套餐 积分 会员"
).split()
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
ADJECTIVES = (
    "daily weekly local current remote next last free open total new old red blue green main spare public".split()
)
CHINESE_ADJECTIVES = "每日 当前 本地 远程 剩余 总 最新 公共 备用 下一班".split()
CHARACTERS = "".join(dict.fromkeys("".join(CHINESE_NOUNS + CHINESE_PLACES + CHINESE_PEOPLE)))
ONSETS = "b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl sn st t th tr v w z".split()
NUCLEI = "a e i o u ai ea ee ou oo a e i o u".split()
CODAS = [""] * 14 + [*"b ck d f g k l m n nd ng nt p r rk rn s sk st t x z".split()]


def held_out(word: str) -> bool:
    """Whether a word belongs to the held-out split: one in five does, by its checksum, lists and nonsense alike."""
    return crc32(word.lower().encode()) % 5 == 0


class Words:
    """Draws words of one split only."""

    def __init__(self, rng: random.Random, held: bool) -> None:
        self.rng, self.held = rng, held

    def of(self, words: list[str] | tuple[str, ...] | str) -> str:
        """One word of a list that belongs to this split."""
        while held_out(word := self.rng.choice(words)) is not self.held:
            pass
        return word

    def nonsense(self, syllables: tuple[int, ...] = (2, 2, 2, 3)) -> str:
        """A pronounceable word that is in no dictionary, such as `braneth`."""
        pick = self.rng.choice
        while True:
            word = "".join(pick(ONSETS) + pick(NUCLEI) + pick(CODAS) for _ in range(pick(syllables)))
            if 2 < len(word) < 10 and held_out(word) is self.held:
                return word

    def characters(self, rare: bool = False) -> str:
        """A Chinese nonsense word of two or three characters; rare ones come from the whole basic block."""
        while True:
            n = self.rng.choice((2, 2, 3))
            draw = (chr(self.rng.randrange(0x4E00, 0x9FA6)) if rare else self.rng.choice(CHARACTERS) for _ in range(n))
            if held_out(word := "".join(draw)) is self.held:
                return word

    def number(self, digits: tuple[int, ...] = (1, 2, 2, 3, 4), decimals: bool = False) -> str:
        """A number in digits, such as `42` or `3.75`."""
        while True:
            text = str(self.rng.randrange(1, 10 ** self.rng.choice(digits)))
            if decimals:
                text += "." + str(self.rng.randrange(1, 100)).rstrip("0")
            if len(text) < 2 or held_out(text) is self.held:
                return text
