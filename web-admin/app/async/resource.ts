/**
 * A value that comes from the server, in one of five states. `reload` shows that it loads; `refresh`
 * is silent and keeps what is shown when it fails.
 */

import { computed, onScopeDispose, ref, shallowRef } from 'vue'
import type { ComputedRef, Ref, ShallowRef } from 'vue'
import { ApiError } from '../api/problem'

export type ResourceState = 'loading' | 'ready' | 'empty' | 'failed' | 'denied'

export interface Resource<T> {
  state: ComputedRef<ResourceState>
  data: ShallowRef<T | null>
  /** Also set while older data is shown, when the last refresh failed. */
  error: Ref<ApiError | null>
  reload: () => Promise<void>
  refresh: () => Promise<void>
}

export function useResource<T>(
  load: (signal: AbortSignal) => Promise<T>,
  isEmpty: (data: T) => boolean = () => false,
): Resource<T> {
  const data = shallowRef<T | null>(null)
  const error = shallowRef<ApiError | null>(null)
  const isLoading = ref(true)
  let running = new AbortController()

  const state = computed<ResourceState>(() => {
    if (isLoading.value) return 'loading'
    if (error.value?.status === 403) return 'denied'
    if (data.value === null) return 'failed'
    return isEmpty(data.value) ? 'empty' : 'ready'
  })

  async function refresh(): Promise<void> {
    running.abort()
    running = new AbortController()
    const { signal } = running
    try {
      const loaded = await load(signal)
      if (signal.aborted) return
      data.value = loaded
      error.value = null
    } catch (failure) {
      if (signal.aborted) return
      if (!(failure instanceof ApiError)) throw failure
      error.value = failure
    }
    isLoading.value = false
  }

  async function reload(): Promise<void> {
    isLoading.value = true
    data.value = null
    await refresh()
  }

  onScopeDispose(() => {
    running.abort()
  })
  return { state, data, error, reload, refresh }
}
