/** One conversation: who owns it, what was said, and what is on its way. */

import { computed, onMounted, ref, shallowRef, watch } from 'vue'
import type { Conversation } from '../../api/types'
import { useChanges } from '../../async/changes'
import { usePages } from '../../async/pages'
import { useResource } from '../../async/resource'
import { useEvents } from '../../realtime/events'
import type { StreamEvent } from '../../realtime/frames'
import { getConversation, listMessages, listNotes, listTransfers } from './api'
import { useOutbox } from './outboxes'
import { useAnswering } from './useAnswering'
import { ANSWERING, botOwesAnswer, entriesOf, holdsMedia, oldestFirst, withDelivery, withMessage } from './thread'
import { withOwner } from './views'

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

/** Messages behind the one that somebody looks for, and as many more whenever they come to the end. */
const BEHIND = 50

/** What was said, from the end, or around a message that somebody looks for. */
function useMessages(id: string, at: number | null, lastNumber: () => number) {
  /** Of a look at what was said earlier: where it ends. What follows is not loaded. */
  const until = shallowRef(at === null ? null : at + BEHIND)
  let isGrowing = false
  const pages = usePages((cursor, signal) => listMessages(id, cursor, until.value, signal))
  const messages = computed(() => oldestFirst(pages.data.value))
  const outbox = useOutbox(id, (message) => {
    if (until.value === null) pages.patch((page) => withMessage(page, message))
  })

  /** More of what follows an earlier message; at the end of it the thread goes on as usual. */
  async function loadNewer(): Promise<void> {
    if (until.value === null || isGrowing) return
    isGrowing = true
    const next = until.value + BEHIND
    until.value = next > lastNumber() ? null : next
    await pages.refresh()
    isGrowing = false
  }

  async function goToNewest(): Promise<void> {
    if (until.value === null) return
    until.value = null
    await pages.reload()
  }

  return { until, pages, messages, outbox, loadNewer, goToNewest }
}

/** `at`: the message to begin with; without one the newest. */
export function useThread(id: string, at: number | null = null) {
  const conversation = useResource((signal) => getConversation(id, signal))
  const said = useMessages(id, at, () => conversation.data.value?.last_number ?? Infinity)
  const { until, pages, messages, outbox, loadNewer, goToNewest } = said
  const hasOlder = computed(() => Boolean(pages.data.value?.next))
  const from = () => (pages.data.value === null ? null : hasOlder.value ? (messages.value[0]?.number ?? 0) : 0)
  const { notes, transfers } = useAsides(id, from, isHere)
  /** Where the member had stopped reading when they came. */
  const seenNumber = shallowRef(Infinity)
  const growing = useAnswering(id, () => conversation.data.value?.owner ?? '', () => messages.value)
  const answering = computed(() => (until.value === null ? growing.value : ''))
  const isAnswering = computed(() => answering.value !== '')
  const lasting = computed(() =>
    entriesOf(messages.value, notes.data.value ?? [], transfers.data.value ?? [], {
      seenNumber: seenNumber.value,
      hasOlder: hasOlder.value,
      until: until.value ?? Infinity,
    }),
  )
  const entries = computed(() => (isAnswering.value ? [...lasting.value, ANSWERING] : lasting.value))
  const endedThrough = ref(0)
  const isBotBusy = computed(
    () =>
      until.value === null &&
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

  const isEarlier = computed(() => until.value !== null)
  return { conversation, pages, messages, entries, notes, answering, outbox, isBotBusy, isEarlier, loadNewer, goToNewest, reload, own }
}
