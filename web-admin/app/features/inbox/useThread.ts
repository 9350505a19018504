/** One conversation: who owns it, what was said, and what is on its way. */

import { computed, onMounted, ref, watch } from 'vue'
import { newUuid } from '../../../kit/uuid'
import type { Conversation, Message } from '../../api/types'
import { useChanges } from '../../async/changes'
import { usePages } from '../../async/pages'
import { useResource } from '../../async/resource'
import { useEvents } from '../../realtime/events'
import type { StreamEvent } from '../../realtime/frames'
import { live } from '../../realtime/live'
import { getConversation, listMessages, sendReply } from './api'
import { Outbox } from './outbox'
import { botOwesAnswer, oldestFirst, withDelivery, withMessage } from './thread'
import { withOwner } from './views'

/** Outboxes outlive their thread, so that a reply goes out though another conversation is shown. */
const outboxes = new Map<string, Outbox>()
type Accept = (message: Message) => void
const accepts = new Map<string, Accept>()

function outboxOf(id: string): Outbox {
  const known = outboxes.get(id)
  if (known) return known
  const outbox = new Outbox({
    send: (reply) => sendReply(id, reply),
    accepted: (message) => accepts.get(id)?.(message),
    newKey: newUuid,
    now: () => new Date().toISOString(),
  })
  outboxes.set(id, outbox)
  return outbox
}

export function useThread(id: string) {
  const conversation = useResource((signal) => getConversation(id, signal))
  const pages = usePages((cursor, signal) => listMessages(id, cursor, signal))
  const messages = computed(() => oldestFirst(pages.data.value))
  const outbox = outboxOf(id)
  const endedThrough = ref(0)
  const isBotBusy = computed(() =>
    botOwesAnswer(conversation.data.value?.owner ?? '', messages.value.at(-1), endedThrough.value),
  )
  const isHere = ({ data }: StreamEvent) => data.conversation_id === id

  useEvents(['delivery.changed', 'conversation.owner_changed', 'turn.ended'], (event) => {
    if (!isHere(event)) return
    const { type, data } = event as StreamEvent & { data: never }
    if (type === 'delivery.changed') pages.patch((page) => withDelivery(page, data))
    else if (type === 'conversation.owner_changed') conversation.patch((one) => withOwner(one, data))
    else endedThrough.value = Math.max(endedThrough.value, data['through_number'])
  })
  useChanges(['message.created', 'delivery.changed', 'asr.completed'], pages.refresh, isHere)
  useChanges(['conversation.owner_changed', 'contact.erased', 'blacklist.changed'], conversation.refresh, isHere)
  accepts.set(id, (message) => {
    pages.patch((page) => withMessage(page, message))
  })
  watch(live.state, (state) => {
    if (state === 'live') void outbox.flush()
  })
  onMounted(reload)

  async function reload(): Promise<void> {
    await Promise.all([conversation.reload(), pages.reload()])
  }

  /** What an answer said of the owner, ahead of the stream. */
  function own(changed: Conversation): void {
    conversation.patch((one) => (changed.owner_version > one.owner_version ? { ...one, ...changed } : one))
  }

  return { conversation, pages, messages, outbox, isBotBusy, reload, own }
}
