/** Starts the chat: finds the channel's token in the address, connects, mounts the page. */

import { createApp } from 'vue'
import ChatPage from './ChatPage.vue'
import { initLanguage } from './language'
import { findHost } from './model/host'
import { LANGUAGE_PARAMETER, THEME_PARAMETER } from './model/host-protocol'
import { Session } from './model/session'
import { PICTURES, loadPicture, storePicture } from './model/pictures'
import { browserStorage, conversationStorage } from './model/storage'
import { newUuid } from '../kit/uuid'
import './style.css'

const token = /^\/webchat\/([^/]+)/.exec(window.location.pathname)?.[1] ?? ''
const area = browserStorage()
const wishes = new URLSearchParams(window.location.hash.slice(1))
initLanguage(area, [wishes.get(LANGUAGE_PARAMETER) ?? [], navigator.languages].flat())
const theme = wishes.get(THEME_PARAMETER)
if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme

const socketUrl = new URL(`/webchat/${token}/ws`, window.location.href)
socketUrl.protocol = socketUrl.protocol.replace('http', 'ws')

const session = new Session({
  openSocket: () => new WebSocket(socketUrl),
  storage: conversationStorage(area, token),
  store: storePicture,
  newId: newUuid,
  random: Math.random,
  now: Date.now,
})

session.wake()
window.addEventListener('online', () => {
  session.reconnect()
})
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') session.wake()
})

createApp(ChatPage, { session, area, host: findHost(window) })
  .provide(PICTURES, {
    load: (mediaId) => loadPicture(token, session.conversation.value.visitor ?? '', mediaId),
    preview: (id) => session.fileOf(id),
  })
  .mount('#chat')
