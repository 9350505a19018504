/**
 * Keeps a page up to date by asking again while somebody looks at it. Whoever brings a live stream
 * replaces this one composable.
 */

import { onMounted, onScopeDispose } from 'vue'

/** The next question comes this long after the last answer. */
export const ASK_AGAIN_AFTER_MS = 3_000

export function useChanges(refresh: () => Promise<void>): void {
  let timer: ReturnType<typeof setTimeout> | undefined
  let isRunning = false
  let isDisposed = false

  function schedule(): void {
    clearTimeout(timer)
    if (!isDisposed && document.visibilityState === 'visible') {
      timer = setTimeout(() => void ask(), ASK_AGAIN_AFTER_MS)
    }
  }

  async function ask(): Promise<void> {
    if (isRunning) return
    isRunning = true
    try {
      await refresh()
    } finally {
      isRunning = false
      schedule()
    }
  }

  function onVisibility(): void {
    clearTimeout(timer)
    if (document.visibilityState === 'visible') void ask()
  }

  onMounted(() => {
    document.addEventListener('visibilitychange', onVisibility)
    schedule()
  })
  onScopeDispose(() => {
    isDisposed = true
    clearTimeout(timer)
    document.removeEventListener('visibilitychange', onVisibility)
  })
}
