/** Says that we look at a conversation, and knows who else does. */

import { computed, onMounted, onScopeDispose, shallowRef, watch } from 'vue'
import { hub, live } from '../../realtime/live'
import { signedIn } from '../../signedIn'
import { namesAt, noted } from './people'
import type { Seen } from './people'

/** A note holds 45 s, the one of typing 6 s. */
const REPEAT_MS = 20_000
const TYPING_EVERY_MS = 3_000
const FORGET_EVERY_MS = 1_000

const seen = shallowRef<readonly Seen[]>([])
hub.onNote((note) => {
  seen.value = noted(seen.value, note, Date.now())
})

export function usePeople(id: string) {
  const now = shallowRef(Date.now())
  let typedAt = -Infinity

  function look(): void {
    if (document.visibilityState === 'visible') live.say('viewing', { conversation_id: id })
  }

  function typing(): void {
    if (Date.now() - typedAt < TYPING_EVERY_MS) return
    typedAt = Date.now()
    live.say('typing', { conversation_id: id })
  }

  function stopTyping(): void {
    if (typedAt > -Infinity) live.say('typing', { conversation_id: id, state: 'off' })
    typedAt = -Infinity
  }

  const repeating = setInterval(look, REPEAT_MS)
  const forgetting = setInterval(() => (now.value = Date.now()), FORGET_EVERY_MS)
  watch(live.state, (state) => {
    if (state === 'live') look()
  })
  onMounted(look)
  onScopeDispose(() => {
    clearInterval(repeating)
    clearInterval(forgetting)
    stopTyping()
    live.say('viewing', { conversation_id: null })
  })

  // A note is newer than the last look at the clock.
  const people = computed(() =>
    namesAt(seen.value, id, signedIn.me.value?.member_id ?? null, now.value),
  )
  return { people, typing, stopTyping }
}
