/** One conversation: who owns it, what was said, and what is on its way. */

import { computed, onMounted, onScopeDispose, ref, shallowRef, watch } from 'vue'
import { newUuid } from '../../../kit/uuid'
import type { Conversation, Message } from '../../api/types'
import { useChanges } from '../../async/changes'
import { usePages } from '../../async/pages'
import { useResource } from '../../async/resource'
import { useEvents } from '../../realtime/events'
import type { StreamEvent } from '../../realtime/frames'
import { live } from '../../realtime/live'
import { signedIn } from '../../signedIn'
import { getConversation, listMessages, listNotes, listTransfers, sendReply } from './api'
import { Outbox } from './outbox'
import { botOwesAnswer, entriesOf, holdsMedia, oldestFirst, withDelivery, withMessage } from './thread'
import { withOwner } from './views'

/** Outboxes outlive their thread, so that a reply goes out though another conversation is shown. */
const outboxes = new Map<string, Outbox>()
type Accept = (message: Message) => void
const accepts = new Map<string, Accept>()

/** Held for one member: whoever signs in next sees nothing of it, and sends none of it. */
function useOutbox(id: string, accept: Accept): Outbox {
  const key = `${signedIn.me.value?.member_id ?? ''} ${id}`
  const outbox =
    outboxes.get(key) ??
    new Outbox({
      send: (reply) => sendReply(id, reply),
      accepted: (message) => accepts.get(key)?.(message),
      newKey: newUuid,
      now: () => new Date().toISOString(),
    })
  outboxes.set(key, outbox)
  accepts.set(key, accept)
  watch(live.state, (state) => {
    if (state === 'live') void outbox.flush()
  })
  onScopeDispose(() => {
    accepts.delete(key)
    if (outbox.replies.length === 0) outboxes.delete(key)
  })
  return outbox
}

/** What only members see, behind the messages that are loaded. */
function useAsides(id: string, from: () => number | null, isHere: (event: StreamEvent) => boolean) {
  const notes = useResource((signal) => listNotes(id, from() ?? 0, signal))
  const transfers = useResource((signal) => listTransfers(id, signal))

  useChanges(['note.changed'], notes.refresh, isHere)
  useChanges(['conversation.transferred'], transfers.refresh, isHere)
  watch(from, (number) => {
    if (number !== null) void notes.refresh()
  })
  onMounted(transfers.reload)
  return { notes, transfers }
}

export function useThread(id: string) {
  const conversation = useResource((signal) => getConversation(id, signal))
  const pages = usePages((cursor, signal) => listMessages(id, cursor, signal))
  const messages = computed(() => oldestFirst(pages.data.value))
  const outbox = useOutbox(id, (message) => {
    pages.patch((page) => withMessage(page, message))
  })
  const hasOlder = computed(() => Boolean(pages.data.value?.next))
  const from = () => (pages.data.value === null ? null : hasOlder.value ? (messages.value[0]?.number ?? 0) : 0)
  const { notes, transfers } = useAsides(id, from, isHere)
  /** Where the member had stopped reading when they came. */
  const seenNumber = shallowRef(Infinity)
  const entries = computed(() =>
    entriesOf(messages.value, notes.data.value ?? [], transfers.data.value ?? [], {
      seenNumber: seenNumber.value,
      hasOlder: hasOlder.value,
    }),
  )
  const endedThrough = ref(0)
  const isBotBusy = computed(() =>
    botOwesAnswer(conversation.data.value?.owner ?? '', messages.value.at(-1), endedThrough.value),
  )

  useEvents(['delivery.changed', 'conversation.owner_changed', 'turn.ended'], (event) => {
    if (!isHere(event)) return
    const { type, data } = event as StreamEvent & { data: never }
    if (type === 'delivery.changed') pages.patch((page) => withDelivery(page, data))
    else if (type === 'conversation.owner_changed') conversation.patch((one) => withOwner(one, data))
    else endedThrough.value = Math.max(endedThrough.value, data['through_number'])
  })
  useChanges(['message.created', 'delivery.changed', 'asr.completed'], pages.refresh, isHere)
  useChanges(['media.converted'], pages.refresh, ({ data }) => holdsMedia(messages.value, data.media_id))
  useChanges(['conversation.owner_changed', 'conversation.tags_changed'], conversation.refresh, isHere)
  useChanges(['contact.changed', 'blacklist.changed'], conversation.refresh, isTheirs)
  useChanges(['contact.erased'], reload, isTheirs)
  onMounted(reload)
  watch(
    conversation.data,
    (now) => {
      if (seenNumber.value === Infinity && now) seenNumber.value = now.seen_number
    },
  )

  function isHere({ data }: StreamEvent): boolean {
    return data.conversation_id === id
  }

  /** Of the blacklist is not told whom a change is about. */
  function isTheirs({ data }: StreamEvent): boolean {
    return data.contact_id === undefined || data.contact_id === conversation.data.value?.contact.id
  }

  async function reload(): Promise<void> {
    await Promise.all([conversation.reload(), pages.reload()])
  }

  /** What an answer said of the owner, ahead of the stream. */
  function own(changed: Conversation): void {
    conversation.patch((one) => (changed.owner_version > one.owner_version ? { ...one, ...changed } : one))
  }

  return { conversation, pages, messages, entries, notes, outbox, isBotBusy, reload, own }
}
