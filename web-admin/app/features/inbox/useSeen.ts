/** Says up to where the member has seen a conversation: only while they really look at its end. */

import { onScopeDispose, shallowRef, watch } from 'vue'
import { ApiError } from '../../api/problem'
import { markSeen } from './api'

export interface Sight {
  number: number
  noteId: string | null
}

/** Whether this page is in front of somebody. */
function useAttention() {
  const isHere = () => document.visibilityState === 'visible' && document.hasFocus()
  const attention = shallowRef(isHere())
  const look = () => {
    attention.value = isHere()
  }
  for (const name of ['focus', 'blur'] as const) window.addEventListener(name, look)
  document.addEventListener('visibilitychange', look)
  onScopeDispose(() => {
    for (const name of ['focus', 'blur'] as const) window.removeEventListener(name, look)
    document.removeEventListener('visibilitychange', look)
  })
  return attention
}

/** `sight` is what lies before their eyes; null while they read further up, or nothing is shown. */
export function useSeen(id: string, sight: () => Sight | null): void {
  const attention = useAttention()
  let told: Sight = { number: 0, noteId: null }
  let isTelling = false

  async function tell(): Promise<void> {
    const now = attention.value ? sight() : null
    if (isTelling || now === null || !isNews(now, told)) return
    isTelling = true
    try {
      await markSeen(id, now.number, now.noteId)
      told = now
    } catch (error) {
      // Nobody asked for it; the next look tells it again.
      if (!(error instanceof ApiError)) throw error
      return
    } finally {
      isTelling = false
    }
    await tell()
  }

  watch([attention, () => sight()?.number, () => sight()?.noteId], tell, { immediate: true })
}

export function isNews(now: Sight, told: Sight): boolean {
  return now.number > told.number || (now.noteId !== null && now.noteId !== told.noteId)
}
