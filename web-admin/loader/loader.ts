/**
 * The one script on a customer's page: a round button that opens the chat in a frame. Everything
 * lives in a shadow root, so the page's styles and ours leave each other alone, and nothing covers
 * the page but the button and the open chat. Styles are constructed, so a strict style-src is fine.
 */

import { HOST_PARAMETER, LANGUAGE_PARAMETER, THEME_PARAMETER } from '../widget/model/host-protocol'
import type { ToChat, ToHost } from '../widget/model/host-protocol'
import styles from './loader.css?inline'

const script = document.currentScript as HTMLScriptElement
const token = encodeURIComponent(script.dataset.token ?? '')
const origin = new URL(script.src).origin
const { language, theme } = script.dataset
const isChinese = (language ?? navigator.language).startsWith('zh')
const memory = `botyard.${token}`

const button = document.createElement('button')
const frame = document.createElement('iframe')
let isOpen = false
let isLoaded = false
let lastUnread = 0

function mount(): void {
  const host = document.createElement('div')
  const shadow = host.attachShadow({ mode: 'open' })
  const sheet = new CSSStyleSheet()
  sheet.replaceSync(styles)
  shadow.adoptedStyleSheets = [sheet]

  // Constructed styles and these two are ours to set, whatever the page's style-src says.
  host.className = script.dataset.side === 'left' ? 'left' : ''
  if (script.dataset.accent) button.style.background = script.dataset.accent
  button.type = 'button'
  button.append(bubble())
  button.onclick = () => {
    show(!isOpen)
  }
  frame.title = isChinese ? '在线客服' : 'Chat'
  frame.hidden = true
  shadow.append(frame, button)
  document.body.append(host)
  describe()

  window.addEventListener('message', onMessage)
  window.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && isOpen) show(false)
  })
  // Who opened the chat before keeps hearing of answers on the site's next page.
  if (remembered()) load()
}

function show(open: boolean): void {
  isOpen = open
  if (open) load()
  frame.hidden = !open
  tellShown()
  describe()
  if (open) frame.focus()
  else button.focus()
}

function load(): void {
  if (frame.src) return
  frame.onload = () => {
    isLoaded = true
    tellShown()
  }
  const wishes = new URLSearchParams({ [HOST_PARAMETER]: window.location.origin })
  if (language) wishes.set(LANGUAGE_PARAMETER, language)
  if (theme) wishes.set(THEME_PARAMETER, theme)
  frame.src = `${origin}/webchat/${token}#${String(wishes)}`
  try {
    sessionStorage.setItem(memory, '1')
  } catch {
    // Without storage the chat opens all the same.
  }
}

function remembered(): boolean {
  try {
    return sessionStorage.getItem(memory) !== null
  } catch {
    return false
  }
}

function onMessage({ data, origin: from, source }: MessageEvent<Partial<ToHost> | null>): void {
  if (from !== origin || source !== frame.contentWindow) return
  if (data?.botyard === 'close') show(false)
  if (data?.botyard === 'unread') {
    lastUnread = Number(data.count)
    describe()
  }
}

function tellShown(): void {
  const message: ToChat = { botyard: 'shown', shown: isOpen }
  if (isLoaded) frame.contentWindow?.postMessage(message, origin)
}

function describe(): void {
  const hasUnread = lastUnread > 0 && !isOpen
  button.className = (isOpen ? 'open' : '') + (hasUnread ? 'unread' : '')
  button.ariaExpanded = String(isOpen)
  const words = isChinese ? ['打开在线客服', '关闭在线客服', '，有新消息'] : ['Open chat', 'Close chat', ', new messages']
  button.ariaLabel = `${words[isOpen ? 1 : 0]}${hasUnread ? words[2] : ''}`
}

function bubble(): SVGElement {
  const name = 'http://www.w3.org/2000/svg'
  const svg = document.createElementNS(name, 'svg')
  svg.setAttribute('viewBox', '0 0 32 32')
  const path = document.createElementNS(name, 'path')
  path.setAttribute(
    'd',
    'M7 8.5A2.5 2.5 0 0 1 9.5 6h13A2.5 2.5 0 0 1 25 8.5v9a2.5 2.5 0 0 1-2.5 2.5H15l-5 4.5V20h-.5A2.5 2.5 0 0 1 7 17.5z',
  )
  svg.append(path)
  return svg
}

if (document.body as HTMLElement | null) mount()
else document.addEventListener('DOMContentLoaded', mount)
