/** The time for what is shown in minutes. */

import { onScopeDispose, shallowRef } from 'vue'
import type { Ref } from 'vue'

const LOOK_EVERY_MS = 20_000

export function useNow(): Readonly<Ref<number>> {
  const now = shallowRef(Date.now())
  const timer = setInterval(() => (now.value = Date.now()), LOOK_EVERY_MS)
  onScopeDispose(() => {
    clearInterval(timer)
  })
  return now
}
