/** The widget's words in its two languages; small enough to need no library. */

import { computed, ref } from 'vue'

export const LANGUAGES = ['zh-CN', 'en'] as const
export type Language = (typeof LANGUAGES)[number]

const STORAGE_KEY = 'botyard.webchat.language'

const zh = {
  title: '在线客服',
  greetingTitle: '您好',
  greeting: '有什么可以帮您？请在下方留言。',
  log: '对话记录',
  you: '您',
  bot: '智能助手',
  human: '客服',
  ownerBot: '智能助手为您解答',
  ownerWaiting: '正在为您转接人工客服…',
  ownerHuman: '{name} 正在为您服务',
  ownerClosed: '会话已结束，发送消息可重新开始',
  composer: '输入消息',
  composerHint: 'Enter 发送，Shift + Enter 换行',
  send: '发送',
  close: '收起聊天窗口',
  switchLanguage: 'Switch to English',
  sending: '发送中',
  delivered: '已送达',
  refused: '未送达',
  retry: '重新发送',
  discard: '删除',
  unsupported: '［暂不支持显示的内容］',
  connecting: '正在连接…',
  waiting: '连接已断开，正在自动重连。您的消息会保留。',
  unknown: '这个聊天地址不存在。',
  closed: '这个聊天已关闭。',
  paused: '服务暂停中。您的消息会保留，恢复后为您答复。',
  picture: '图片',
  addPicture: '添加图片',
  removePicture: '移除图片',
  pictureGone: '［图片已不存在］',
  loadPicture: '重新加载图片',
  pictureLost: '页面刷新时图片尚未上传，请重新选择。',
  pictureTooLarge: '图片过大，最大 {limit} MB',
  notAPicture: '只能发送 PNG、JPEG、GIF 或 WebP 图片',
  outboxFull: '未送达的消息太多，请等连接恢复后再发送。',
  tooLong: '消息过长：{count} / {limit} 字',
  newMessages: '有新消息',
  rate: '这次服务怎么样？',
  stars: '{count} 星（最高 {best} 星）',
  rateWords: '还想说点什么？（可不填）',
  notNow: '暂不评价',
}

export type Word = keyof typeof zh

const en: Record<Word, string> = {
  title: 'Chat with us',
  greetingTitle: 'Hello',
  greeting: 'How can we help? Leave us a message below.',
  log: 'Conversation',
  you: 'You',
  bot: 'Assistant',
  human: 'Support',
  ownerBot: 'Our assistant answers',
  ownerWaiting: 'Finding someone to help you…',
  ownerHuman: '{name} is helping you',
  ownerClosed: 'This conversation has ended; write to start again',
  composer: 'Write a message',
  composerHint: 'Enter to send, Shift + Enter for a new line',
  send: 'Send',
  close: 'Close the chat',
  switchLanguage: '切换为中文',
  sending: 'Sending',
  delivered: 'Delivered',
  refused: 'Not delivered',
  retry: 'Send again',
  discard: 'Remove',
  unsupported: '[content that cannot be shown here]',
  connecting: 'Connecting…',
  waiting: 'Connection lost, trying again. Your messages are kept.',
  unknown: 'There is no chat at this address.',
  closed: 'This chat has been closed.',
  paused: 'Service is paused. Your messages are kept and answered when it is back.',
  picture: 'Picture',
  addPicture: 'Add a picture',
  removePicture: 'Remove the picture',
  pictureGone: '[this picture is gone]',
  loadPicture: 'Load the picture again',
  pictureLost: 'The page was reloaded before the picture was stored; please choose it again.',
  pictureTooLarge: 'The picture is too large; at most {limit} MB',
  notAPicture: 'Only PNG, JPEG, GIF and WebP pictures can be sent',
  outboxFull: 'Too many messages are waiting; please wait for the connection.',
  tooLong: 'Too long: {count} of {limit} characters',
  newMessages: 'New messages',
  rate: 'How was it?',
  stars: '{count} of {best} stars',
  rateWords: 'Anything to add? (optional)',
  notNow: 'Not now',
}

const words: Record<Language, Record<Word, string>> = { 'zh-CN': zh, en }

/** The first of the browser's languages that we speak. */
export function chooseLanguage(preferred: readonly string[]): Language {
  for (const tag of preferred) {
    if (tag.toLowerCase().startsWith('zh')) return 'zh-CN'
    if (tag.toLowerCase().startsWith('en')) return 'en'
  }
  return 'en'
}

const language = ref<Language>('en')

/** Picks the language at the start: what the visitor chose before, else what is preferred. */
export function initLanguage(storage: Storage | null, preferred: readonly string[]): void {
  const stored = LANGUAGES.find((candidate) => candidate === storage?.getItem(STORAGE_KEY))
  apply(stored ?? chooseLanguage(preferred))
}

export function useLanguage() {
  return {
    language: computed(() => language.value),
    t(word: Word, values: Record<string, string | number> = {}): string {
      return words[language.value][word].replace(/\{(\w+)\}/g, (_, name: string) =>
        String(values[name] ?? ''),
      )
    },
    toggle(storage: Storage | null): void {
      const next = language.value === 'en' ? 'zh-CN' : 'en'
      apply(next)
      storage?.setItem(STORAGE_KEY, next)
    },
  }
}

function apply(next: Language): void {
  language.value = next
  document.documentElement.lang = next
}
