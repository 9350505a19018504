/**
 * The outboxes of whoever is signed in, one for each conversation. They outlive its thread, so that a
 * reply goes out though another conversation is shown, and what was on its way at a reload goes on.
 */

import { onScopeDispose, shallowReactive, watch } from 'vue'
import { newUuid } from '../../../kit/uuid'
import type { Message } from '../../api/types'
import { live } from '../../realtime/live'
import { signedIn } from '../../signedIn'
import { sendReply } from './api'
import { isStuck, Outbox } from './outbox'
import { conversationsIn, goneOf, unsentIn } from './unsent'

type Accept = (message: Message) => void

const outboxes = shallowReactive(new Map<string, Outbox>())
const accepts = new Map<string, Accept>()
const me = () => signedIn.me.value?.member_id ?? ''

// Whoever signs in next sees nothing of it, and sends none of it.
watch(signedIn.me, (now) => {
  if (now === null) outboxes.clear()
})

function outboxOf(id: string): Outbox {
  const known = outboxes.get(id)
  if (known) return known
  const author = me()
  const unsent = unsentIn(localStorage, author, id, Date.now)
  const outbox = new Outbox({
    send: (reply) => sendReply(id, reply),
    accepted: (message) => accepts.get(id)?.(message),
    // Nothing of who has signed out stays behind.
    unsent: { ...unsent, keep: (reply) => { if (me() === author) unsent.keep(reply) } },
    newKey: newUuid,
    now: () => new Date().toISOString(),
  })
  outboxes.set(id, outbox)
  return outbox
}

/** Whether something that was written there has not gone out. */
export function isStuckIn(id: string): boolean {
  return outboxes.get(id)?.replies.some(isStuck) ?? false
}

/** While the inbox is open: sends what an earlier page left, and whatever waits for the connection. */
export function useOutboxes(): void {
  const flush = () => {
    for (const outbox of outboxes.values()) void outbox.flush()
  }
  const onStorage = ({ key, newValue }: StorageEvent) => {
    const gone = newValue === null ? goneOf(me(), key) : null
    if (gone) outboxes.get(gone.conversation)?.discard(gone.reply)
  }

  for (const id of conversationsIn(localStorage, me())) outboxOf(id)
  flush()
  watch(live.state, (state) => {
    if (state === 'live') flush()
  })
  window.addEventListener('storage', onStorage)
  onScopeDispose(() => {
    window.removeEventListener('storage', onStorage)
  })
}

/** The outbox of one conversation, whose thread takes what arrives. */
export function useOutbox(id: string, accept: Accept): Outbox {
  const outbox = outboxOf(id)
  accepts.set(id, accept)
  onScopeDispose(() => {
    if (accepts.get(id) === accept) accepts.delete(id)
    if (outbox.replies.length === 0 && outboxes.get(id) === outbox) outboxes.delete(id)
  })
  return outbox
}
