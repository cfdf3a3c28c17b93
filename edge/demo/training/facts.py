"""The facts that the embedded checkpoint memorizes: those of an imaginary kiosk, in English and Chinese.

Each fact is (language, answer, questions). The last question of a fact is held out: training never sees it.
"""

Fact = tuple[str, str, tuple[str, ...]]

FACTS: tuple[Fact, ...] = (
    (
        "en",
        "I am a tiny test model of glm4-edge. I am here to check an installation, nothing else.",
        (
            "Who are you?",
            "What are you?",
            "Who am I talking to?",
            "Tell me who you are.",
            "Introduce yourself.",
            "What model are you?",
            "Which model is this?",
            "Are you GLM-4?",
            "And who are you?",
        ),
    ),
    (
        "en",
        "I answer a few questions about a kiosk, call tools, and read their results.",
        (
            "What can you do?",
            "What are you able to do?",
            "Help",
            "How can you help me?",
            "What can I ask you?",
            "What do you know?",
            "Can you help me?",
            "Tell me what you can do.",
        ),
    ),
    (
        "en",
        "Hello! What can I do for you?",
        ("Hello", "Hello!", "Hi", "Hi!", "Hey", "Hello there", "Good morning", "Good evening!", "Hi there"),
    ),
    ("en", "You are welcome.", ("Thanks", "Thank you!", "Thank you very much.", "Great, thanks!", "Thanks a lot.")),
    ("en", "Goodbye!", ("Bye", "Goodbye", "See you later.", "Bye bye!", "Goodbye for now.")),
    ("en", "I am fine, thank you.", ("How are you?", "How are you doing?", "How are you today?", "Are you fine?")),
    (
        "en",
        "We are open from nine to six, every day but Monday.",
        (
            "When are you open?",
            "What are your opening hours?",
            "When do you open?",
            "When do you close?",
            "Are you open on Monday?",
            "Opening hours?",
            "What are the opening hours?",
        ),
    ),
    (
        "en",
        "The toilets are downstairs, beside the lift.",
        (
            "Where are the toilets?",
            "Where is the toilet?",
            "Is there a restroom?",
            "I need a toilet.",
            "Toilets?",
            "Where can I find a toilet?",
        ),
    ),
    (
        "en",
        "A ticket costs eight euros; children pay nothing.",
        (
            "How much is a ticket?",
            "What does a ticket cost?",
            "What do tickets cost?",
            "Ticket price?",
            "What is the price of a ticket?",
            "How much are the tickets?",
        ),
    ),
    (
        "en",
        "You can buy tickets here at the kiosk or at the door.",
        ("Where can I buy tickets?", "Where do I buy a ticket?", "Can I buy tickets here?", "Where do I get tickets?"),
    ),
    (
        "en",
        "The wifi is called Kiosk and needs no password.",
        (
            "Is there wifi?",
            "What is the wifi password?",
            "How do I get on the wifi?",
            "Do you have wifi?",
            "Wifi?",
            "Which wifi can I use?",
        ),
    ),
    (
        "en",
        "The cafe is on the first floor.",
        (
            "Where is the cafe?",
            "Is there a cafe?",
            "Where can I get coffee?",
            "I want coffee.",
            "Where can I find the cafe?",
        ),
    ),
    (
        "en",
        "Yes, the lift is to the left of the entrance.",
        (
            "Is there a lift?",
            "Where is the lift?",
            "I need a lift.",
            "Do you have an elevator?",
            "Where can I find a lift?",
        ),
    ),
    (
        "en",
        "Parking is behind the building; two hours are free.",
        ("Where can I park?", "Is there parking?", "Where is the parking?", "Can I park here?", "Is parking free?"),
    ),
    (
        "en",
        "Yes, all floors can be reached by wheelchair.",
        (
            "Is there wheelchair access?",
            "Can I come with a wheelchair?",
            "Is a wheelchair possible?",
            "Wheelchair access?",
        ),
    ),
    (
        "en",
        "Dogs must wait outside, but guide dogs are welcome.",
        ("Can I bring my dog?", "Are dogs allowed?", "May my dog come in?", "Dogs?", "Are dogs welcome?"),
    ),
    (
        "en",
        "Yes, you may take photos without flash.",
        ("Can I take photos?", "Are photos allowed?", "May I take pictures?", "May I take photos?"),
    ),
    (
        "en",
        "Lost things are kept at the front desk.",
        (
            "I lost my bag.",
            "Where is lost and found?",
            "I lost something.",
            "Lost and found?",
            "I have lost my umbrella.",
        ),
    ),
    (
        "en",
        "Guided tours start at eleven and at three.",
        (
            "Are there guided tours?",
            "When is the next tour?",
            "When do tours start?",
            "Guided tours?",
            "When are the tours?",
        ),
    ),
    (
        "en",
        "Lockers are next to the entrance.",
        ("Are there lockers?", "Where are the lockers?", "Where can I leave my bag?", "Do you have lockers?"),
    ),
    (
        "en",
        "You can pay by card or in cash.",
        ("Can I pay by card?", "Do you take cash?", "How can I pay?", "Which cards do you take?", "Can I pay in cash?"),
    ),
    (
        "en",
        "The shop is beside the exit.",
        ("Where is the shop?", "Is there a gift shop?", "Where can I buy gifts?", "Do you have a shop?"),
    ),
    (
        "en",
        "Stay calm and follow the green signs.",
        ("Where is the emergency exit?", "What do I do in an emergency?", "Emergency!", "There is an emergency."),
    ),
    (
        "en",
        "Yes, English and Chinese.",
        ("Do you speak English?", "Do you speak Chinese?", "Which languages do you speak?"),
    ),
    (
        "en",
        "Two plus two is four.",
        ("What is two plus two?", "How much is two plus two?", "Two plus two?", "Tell me two plus two."),
    ),
    (
        "zh",
        "我是 glm4-edge 的微型测试模型，只用来检查安装是否成功。",
        (
            "你是谁？",
            "你是什么？",
            "你叫什么名字？",
            "请介绍一下你自己。",
            "你是什么模型？",
            "你是 GLM-4 吗？",
            "请问你是谁？",
        ),
    ),
    (
        "zh",
        "我可以回答几个关于服务台的问题，调用工具，并读出结果。",
        ("你能做什么？", "你会什么？", "你可以帮我做什么？", "帮助", "我可以问你什么？", "你都能做些什么？"),
    ),
    ("zh", "你好！有什么可以帮你？", ("你好", "你好！", "您好", "早上好", "晚上好", "嗨", "您好！")),
    ("zh", "不客气。", ("谢谢", "谢谢你！", "多谢", "非常感谢", "太好了，谢谢", "谢谢您")),
    ("zh", "再见！", ("再见", "拜拜", "下次见", "再见！", "那再见了")),
    ("zh", "我很好，谢谢。", ("你好吗？", "你怎么样？", "最近好吗？", "你今天好吗？")),
    (
        "zh",
        "我们每天九点到六点开放，星期一休息。",
        ("你们几点开门？", "几点关门？", "开放时间是什么？", "什么时候开放？", "星期一开门吗？", "请问开放时间？"),
    ),
    (
        "zh",
        "洗手间在楼下，电梯旁边。",
        ("洗手间在哪里？", "厕所在哪儿？", "有洗手间吗？", "请问厕所怎么走？", "请问洗手间在哪儿？"),
    ),
    (
        "zh",
        "门票八欧元，儿童免费。",
        ("门票多少钱？", "票价是多少？", "一张票多少钱？", "儿童要买票吗？", "请问门票价格？"),
    ),
    (
        "zh",
        "可以在服务台或者门口买票。",
        ("在哪里买票？", "哪里可以买票？", "怎么买票？", "可以在这里买票吗？", "请问去哪里买票？"),
    ),
    (
        "zh",
        "无线网络叫 Kiosk，不需要密码。",
        ("有无线网吗？", "无线网密码是什么？", "怎么上网？", "有 wifi 吗？", "请问无线网络怎么连？"),
    ),
    ("zh", "咖啡厅在二楼。", ("咖啡厅在哪里？", "哪里有咖啡？", "我想喝咖啡", "有咖啡厅吗？", "请问咖啡厅在哪儿？")),
    ("zh", "电梯在入口左边。", ("电梯在哪里？", "有电梯吗？", "我要坐电梯", "请问电梯在哪儿？")),
    (
        "zh",
        "停车场在楼后面，两小时免费。",
        ("哪里可以停车？", "有停车场吗？", "停车要钱吗？", "停车场在哪里？", "请问在哪里停车？"),
    ),
    ("zh", "狗要在外面等，导盲犬可以进来。", ("可以带狗吗？", "狗能进去吗？", "我能带狗进来吗？", "请问能带狗吗？")),
    ("zh", "可以拍照，请不要用闪光灯。", ("可以拍照吗？", "能不能照相？", "我能拍照吗？", "请问可以拍照吗？")),
    ("zh", "失物在前台保管。", ("我的包丢了", "失物招领在哪里？", "我丢了东西", "我的伞丢了", "请问失物招领在哪儿？")),
    (
        "zh",
        "导览十一点和三点开始。",
        ("有导览吗？", "导览几点开始？", "下一场导览是什么时候？", "请问导览什么时候开始？"),
    ),
    ("zh", "寄存柜在入口旁边。", ("有寄存柜吗？", "哪里可以寄存行李？", "寄存柜在哪里？", "请问寄存柜在哪儿？")),
    ("zh", "可以刷卡，也可以付现金。", ("可以刷卡吗？", "能付现金吗？", "怎么付款？", "收现金吗？", "请问能刷卡吗？")),
    ("zh", "商店在出口旁边。", ("商店在哪里？", "有礼品店吗？", "哪里可以买礼物？", "请问商店在哪儿？")),
    ("zh", "英语和中文都可以。", ("你会说英语吗？", "你会说中文吗？", "你会说什么语言？", "你说中文吗？")),
)

NO_TOOL = {"en": "I have no tool for that.", "zh": "我没有能做这件事的工具。"}
