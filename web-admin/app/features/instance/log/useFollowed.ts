/** Keeps an instance's log coming while the page is open; the page changes once for each frame. */

import { onMounted, onScopeDispose, ref, shallowRef } from 'vue'
import { ApiError } from '../../../api/problem'
import { openLog } from '../api'
import type { LogBuffer } from './buffer'
import { follow, TAIL } from './follow'
import type { FollowState } from './follow'

/** Lines that wait for a frame at most; a hidden page has none. */
const MOST_PENDING = 2_000

export function useFollowed(instanceId: string, buffer: LogBuffer, changed: () => void) {
  const ended = new AbortController()
  const state = ref<FollowState>('connecting')
  const error = shallowRef<ApiError | null>(null)
  let pending: string[] = []
  let frame = 0

  function draw(): void {
    cancelAnimationFrame(frame)
    frame = 0
    buffer.add(pending)
    pending = []
    changed()
  }

  function take(lines: string[]): void {
    for (const line of lines) pending.push(line)
    if (pending.length >= MOST_PENDING) draw()
    else frame ||= requestAnimationFrame(draw)
  }

  function newest(most: number): string[] {
    draw()
    return buffer.newest(most)
  }

  function became(now: FollowState): void {
    state.value = now
  }

  const open = (signal: AbortSignal) => openLog(instanceId, TAIL, signal)

  async function start(): Promise<void> {
    error.value = null
    try {
      await follow({ open, wait: pause, random: Math.random, newest, take, became }, ended.signal)
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure
      error.value = failure
    }
  }

  onMounted(start)
  onScopeDispose(() => {
    ended.abort()
    cancelAnimationFrame(frame)
  })
  return { state, error, start }
}

/** Resolves after so long, or at once when it is ended. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms)
    function done(): void {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    signal.addEventListener('abort', done)
    if (signal.aborted) done()
  })
}
