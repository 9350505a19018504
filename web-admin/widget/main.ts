/** Starts the chat: finds the channel's token in the address, connects, mounts the page. */

import { createApp } from 'vue'
import ChatPage from './ChatPage.vue'
import { initLanguage } from './language'
import { findHost } from './model/host'
import { Session } from './model/session'
import { PICTURES, loadPicture, storePicture } from './model/pictures'
import { browserStorage, conversationStorage } from './model/storage'
import { newUuid } from '../kit/uuid'
import './style.css'

const token = /^\/webchat\/([^/]+)/.exec(window.location.pathname)?.[1] ?? ''
const area = browserStorage()
initLanguage(area, navigator.languages)

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
