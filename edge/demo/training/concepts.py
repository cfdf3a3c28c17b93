"""The subjects and verbs of the synthetic tools, in English and Chinese."""

import re

# "english=chinese": things that a tool can read, and things that it can act on.
_PAIRS = (
    "weather=天气 temperature=温度 humidity=湿度 battery=电池 disk=磁盘 disk space=磁盘空间 memory=内存 "
    "processor=处理器 volume=音量 brightness=亮度 alarm=闹钟 timer=计时器 light=灯光 lamp=台灯 door=房门 "
    "window=窗户 heater=暖气 fan=风扇 printer=打印机 camera=相机 song=歌曲 music=音乐 movie=电影 "
    "book=图书 recipe=菜谱 menu=菜单 train=火车 bus=公交 flight=航班 ferry=轮渡 taxi=出租车 hotel=酒店 "
    "room=房间 table=餐桌 seat=座位 meeting=会议 calendar=日历 reminder=提醒 invoice=发票 order=订单 "
    "parcel=包裹 price=价格 discount=折扣 stock price=股价 exchange rate=汇率 account=账户 balance=余额 "
    "salary=工资 tax=税款 report=报告 file=文件 folder=文件夹 document=文档 backup=备份 network=网络 "
    "server=服务器 database=数据库 log=日志 password=密码 user=用户 contact=联系人 message=消息 "
    "email=邮件 note=笔记 video=视频 map=地图 route=路线 distance=距离 traffic=路况 museum=博物馆 "
    "concert=音乐会 match=比赛 score=比分 doctor=医生 medicine=药品 appointment=预约 course=课程 "
    "exam=考试 dictionary=词典 translation=翻译 joke=笑话 news=新闻 planet=行星 sunrise=日出 tide=潮汐 "
    "earthquake=地震 rain=降雨 wind=风速 pollen=花粉 river=河流 charger=充电桩 luggage=行李 passport=护照 "
    "visa=签证 robot=机器人 sensor=传感器 pressure=压力 speed=速度 weight=重量 height=高度 noise=噪音 "
    "population=人口 time=时间 holiday=假期 birthday=生日 gift=礼品 coffee=咖啡 pizza=披萨 cake=蛋糕 "
    "channel=频道 playlist=歌单 screen=屏幕 loan=贷款 insurance=保险 contract=合同 warehouse=仓库 "
    "inventory=库存 delivery=快递 bridge=桥梁 airport=机场 harbour=港口 theatre=剧院 stadium=体育场 "
    "patient=病人 pharmacy=药店 teacher=老师 student=学生 library=图书馆 poem=诗歌 story=故事 moon=月亮 "
    "storm=风暴 snow=降雪 air quality=空气质量 lake=湖泊 forest=森林 farm=农场 engine=发动机 fuel=燃料 "
    "tyre=轮胎 bicycle=自行车 electricity=电费 gas=煤气 ship=船舶 container=集装箱 drone=无人机 "
    "valve=阀门 satellite=卫星 rocket=火箭 label=标签 barcode=条码 branch=分支 release=版本 cluster=集群 "
    "queue=队列 event=事件 schedule=日程 party=聚会 guest=客人 flower=鲜花 garden=花园 plant=植物 "
    "milk=牛奶 bread=面包 tea=茶叶 juice=果汁 shirt=衬衫 shoe=鞋子 watch=手表"
)
CONCEPTS: tuple[tuple[str, str], ...] = tuple(re.findall(r"([a-z][a-z ]*)=(\S+)", _PAIRS))

# Verbs of tools that act: as a name and a sentence begin, and in Chinese.
_VERBS = (
    "start=启动 stop=停止 open=打开 close=关闭 book=预订 cancel=取消 send=发送 play=播放 print=打印 delete=删除 "
    "create=创建 add=添加 order=订购 update=更新 lock=锁定 reset=重置 save=保存 move=移动 rename=改名 reserve=预留 "
    "schedule=安排 share=分享"
)
VERBS: tuple[tuple[str, str], ...] = tuple(re.findall(r"([a-z]+)=(\S+)", _VERBS))
