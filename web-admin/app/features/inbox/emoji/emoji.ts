/** The emoji that one reaches for at work, by group, with what people call them in both languages. */

export interface Emoji {
  readonly sign: string
  readonly words: string
}

export const GROUPS = ['smileys', 'people', 'hearts', 'things', 'signs'] as const
export type Group = (typeof GROUPS)[number]

/** One in a line: the sign, then its words. */
const LISTS: Record<Group, string> = {
  smileys: `
😀 grinning happy 笑 开心
😄 smile happy 高兴 笑
😁 beaming grin 嘻嘻 开心
😂 joy tears laugh 笑哭
🤣 rofl laugh 大笑
😊 blush smile 微笑 害羞
🙂 slight smile 微笑
😉 wink 眨眼
😍 love heart eyes 喜欢 爱
🥰 love hearts 喜爱
😘 kiss 亲亲
😋 yum tasty 好吃
😎 cool sunglasses 酷
🤩 star wow 惊喜
🤗 hug 拥抱
🤔 think 思考 想
🤝 handshake deal 握手 合作
😅 sweat awkward 尴尬 汗
😐 neutral 面无表情
🙄 eye roll 白眼
😏 smirk 得意
😮 surprised wow 惊讶
😲 astonished 吃惊
😴 sleep 睡觉 困
😌 relieved 放心
😔 sad pensive 难过
😢 cry sad 哭
😭 sob cry 大哭
😞 disappointed 失望
😟 worried 担心
😰 anxious 焦虑
😡 angry 生气
😤 huff 哼
😱 scream scared 害怕
🥺 please puppy 拜托 可怜
😳 flushed 脸红
🤒 sick ill 生病
😷 mask 口罩
🥳 party celebrate 庆祝
😇 angel 天使
🤫 quiet hush 安静 嘘
🤐 zip secret 保密
🙈 monkey shy 捂脸`,
  people: `
👍 thumbs up good yes 赞 好
👎 thumbs down bad no 差 不好
👌 ok 好的
✌️ victory peace 胜利 耶
🤞 fingers crossed luck 好运
👏 clap bravo 鼓掌
🙌 hooray hands 万岁
🙏 thanks please pray 谢谢 拜托 感谢
🤲 palms 请
💪 strong muscle 加油 强
👋 wave hello bye 你好 再见
🤙 call me 打电话
👉 point right 右 看
👈 point left 左
👆 point up 上
👇 point down 下
✋ stop hand 停
✊ fist 拳头 加油
👀 eyes look 看 关注
🙋 raise hand 举手
🙇 bow sorry 抱歉 鞠躬
🤷 shrug 不知道
🤦 facepalm 无语
💁 help info 服务
👨‍💻 developer computer 技术
👩‍💼 office agent 客服`,
  hearts: `
❤️ heart love red 爱心
🧡 heart orange 橙心
💛 heart yellow 黄心
💚 heart green 绿心
💙 heart blue 蓝心
💜 heart purple 紫心
💔 broken heart 心碎
💕 hearts 爱心
💖 sparkling heart 爱
🌹 rose flower 玫瑰 花
💐 bouquet flowers 花束
🎉 party tada congratulations 恭喜 庆祝
🎊 confetti 庆祝
🎁 gift present 礼物
🎂 cake birthday 生日 蛋糕
🧧 red envelope 红包
🏮 lantern festival 灯笼 节日
🎆 fireworks 烟花
🧨 firecracker new year 新年 鞭炮
🥂 cheers 干杯`,
  things: `
📦 package parcel delivery 包裹 快递
🚚 truck delivery shipping 发货 物流
✈️ plane flight 飞机
🏠 home house 家
🏢 office company 公司
🛒 cart shopping 购物车
🛍️ shopping bags 购物
💰 money 钱
💳 card pay 付款 银行卡
🧾 receipt invoice 发票 收据
💵 cash 现金
📞 phone call 电话
📱 mobile 手机
💻 laptop computer 电脑
📧 email 邮件
📎 attachment clip 附件
📄 document file 文件
📝 note write 记录 备注
📅 calendar date 日期 日历
⏰ alarm time 时间 闹钟
⏳ wait hourglass 等待
🔑 key password 钥匙 密码
🔒 lock secure 安全 锁
🔧 repair wrench 维修
⚙️ settings gear 设置
🔍 search 查询 搜索
💡 idea light 想法 提示
📷 camera photo 照片
☕ coffee 咖啡
🍵 tea 茶
🍎 apple 苹果
🍜 noodles 面 吃饭`,
  signs: `
✅ check done yes 完成 是
❌ cross no wrong 错误 否
⚠️ warning 注意 警告
❗ exclamation important 重要
❓ question 问题 疑问
💯 hundred perfect 满分
🔥 fire hot 火 热门
⭐ star 星 收藏
✨ sparkles new 闪亮 新
🆗 ok 好
🆕 new 新品
🔔 bell notice 通知
🔄 refresh again 刷新 重试
➡️ right arrow 右 下一步
⬅️ left arrow 左 返回
⬆️ up arrow 上
⬇️ down arrow 下
1️⃣ one 一
2️⃣ two 二
3️⃣ three 三
☀️ sun weather 太阳 晴
🌙 moon night 月亮 晚安
🌧️ rain 雨
🌈 rainbow 彩虹
🐼 panda 熊猫
🐶 dog 狗
🐱 cat 猫`,
}

export const EMOJI: Record<Group, readonly Emoji[]> = {
  smileys: read(LISTS.smileys),
  people: read(LISTS.people),
  hearts: read(LISTS.hearts),
  things: read(LISTS.things),
  signs: read(LISTS.signs),
}

/** Those of which every word that was typed is part of a word. */
export function find(typed: string): Emoji[] {
  const sought = typed.toLowerCase().split(/\s+/).filter(Boolean)
  const all = GROUPS.flatMap((group) => EMOJI[group])
  return all.filter(({ sign, words }) => sought.every((word) => words.includes(word) || sign === word))
}

function read(list: string): Emoji[] {
  return list.trim().split('\n').map((line) => {
    const [sign = '', ...words] = line.split(' ')
    return { sign, words: words.join(' ') }
  })
}
