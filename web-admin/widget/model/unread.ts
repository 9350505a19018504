/** How many answers arrived while the visitor was not looking. */

import { ref, watch } from 'vue'
import type { Ref } from 'vue'
import type { Conversation } from './conversation'

/** Answers in `next` that `previous` did not have; the first view of a conversation has none. */
export function countNew(previous: Conversation, next: Conversation): number {
  if (previous.lastId === null || next.messages === previous.messages) return 0
  const known = new Set(previous.messages.map(({ id }) => id))
  return next.messages.filter(({ id, sender }) => sender.kind !== 'visitor' && !known.has(id)).length
}

export function useUnread(
  conversation: Readonly<Ref<Conversation>>,
  isLooking: Readonly<Ref<boolean>>,
): Ref<number> {
  const unread = ref(0)
  watch(
    conversation,
    (next, previous) => {
      if (!isLooking.value) unread.value += countNew(previous, next)
    },
    { flush: 'sync' },
  )
  watch(isLooking, (looking) => {
    if (looking) unread.value = 0
  })
  return unread
}
