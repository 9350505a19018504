/** Of several tabs one alone alerts: the one that somebody looked at last. */

import { onScopeDispose, shallowRef } from 'vue'
import type { Ref } from 'vue'

const NAME = 'botyard.alerts'

/** Browsers have locks in secure contexts only, which is also where notifications are. */
export function useTurn(locks: Pick<LockManager, 'request'> | undefined): Readonly<Ref<boolean>> {
  const isOurs = shallowRef(locks === undefined)
  let waiting = new AbortController()
  let release = (): void => undefined
  let hasEnded = false

  const hold = (): Promise<void> => {
    if (hasEnded) return Promise.resolve()
    isOurs.value = true
    return new Promise((resolve) => (release = resolve))
  }

  function queue(): void {
    waiting = new AbortController()
    const { signal } = waiting
    locks?.request(NAME, { signal }, hold).catch(() => {
      if (!signal.aborted) lose()
    })
  }

  /** Somebody looks at another tab now. */
  function lose(): void {
    isOurs.value = false
    if (!hasEnded) queue()
  }

  function take(): void {
    if (isOurs.value) return
    waiting.abort()
    locks?.request(NAME, { steal: true }, hold).catch(lose)
  }

  if (document.hasFocus()) take()
  else queue()
  window.addEventListener('focus', take)
  onScopeDispose(() => {
    hasEnded = true
    window.removeEventListener('focus', take)
    waiting.abort()
    release()
  })
  return isOurs
}
