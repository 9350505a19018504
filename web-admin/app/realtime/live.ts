/** The dashboard's one stream: started by who signs in, ended by who leaves. */

import { readonly, ref } from 'vue'
import { newUuid } from '../../kit/uuid'
import { api } from '../api/api'
import { Hub } from './hub'
import { Link } from './link'
import type { LinkState } from './link'

export const hub = new Hub()

const state = ref<LinkState>('idle')
const link = new Link({
  openSocket: () => new WebSocket(new URL('/api/v1/ws', location.href.replace(/^http/, 'ws'))),
  pass: () => api.pass,
  renew: () => api.renew(),
  resume: () => hub.place,
  isVisible: () => document.visibilityState === 'visible',
  onFrame: (frame) => {
    hub.receive(frame)
  },
  onState: (next) => {
    state.value = next
  },
  newId: newUuid,
  random: Math.random,
  now: () => performance.now(),
})

export const live = {
  state: readonly(state),

  start(): void {
    link.wake()
  },

  /** At once, also after an end that was final: a tenant may have been resumed. */
  retry(): void {
    link.stop()
    link.wake()
  },

  stop(): void {
    link.stop()
    hub.forget()
  },

  /** Says what the member looks at or that they type; lost when there is no connection. */
  say(type: 'viewing' | 'typing', data: Record<string, unknown>): void {
    link.say(type, data)
  },
}

// The old socket of another network may be dead without knowing it.
window.addEventListener('online', () => {
  link.reconnect()
})
for (const [target, name] of [
  [document, 'visibilitychange'],
  [window, 'focus'],
] as const) {
  target.addEventListener(name, () => {
    if (document.visibilityState !== 'visible') return
    // A tenant that rested may be back.
    if (state.value === 'denied') live.retry()
    else if (state.value !== 'idle') link.wake()
  })
}
