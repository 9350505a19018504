/**
 * A value that comes from the server, in one of six states. `reload` shows that it loads; `refresh`
 * is silent and keeps what is shown when it fails; `patch` makes a change that the stream told.
 */

import { computed, onScopeDispose, ref, shallowRef } from 'vue'
import type { ComputedRef, Ref } from 'vue'
import { ApiError } from '../api/problem'
import { begun, changed, empty, failed, loaded } from './synced'
import type { Change, Synced } from './synced'

export type ResourceState = 'loading' | 'ready' | 'empty' | 'failed' | 'denied' | 'offline'

export interface Resource<T> {
  state: ComputedRef<ResourceState>
  data: ComputedRef<T | null>
  /** Also set while older data is shown, when the last refresh failed. */
  error: Ref<ApiError | null>
  reload: () => Promise<void>
  refresh: () => Promise<void>
  patch: (change: Change<T>) => void
}

export function useResource<T>(
  load: (signal: AbortSignal) => Promise<T>,
  isEmpty: (data: T) => boolean = () => false,
): Resource<T> {
  const synced = shallowRef<Synced<T>>(empty())
  const error = shallowRef<ApiError | null>(null)
  const isFirst = ref(true)
  let running = new AbortController()

  const data = computed(() => synced.value.data)
  const state = computed<ResourceState>(() => {
    if (isFirst.value) return 'loading'
    if (error.value?.status === 403) return 'denied'
    if (data.value === null) return error.value?.status === 0 ? 'offline' : 'failed'
    return isEmpty(data.value) ? 'empty' : 'ready'
  })

  async function refresh(): Promise<void> {
    running.abort()
    running = new AbortController()
    const { signal } = running
    synced.value = begun(synced.value)
    try {
      const fresh = await load(signal)
      if (signal.aborted) return
      synced.value = loaded(synced.value, fresh)
      error.value = null
    } catch (failure) {
      if (signal.aborted) return
      synced.value = failed(synced.value)
      if (!(failure instanceof ApiError)) throw failure
      error.value = failure
    }
    isFirst.value = false
    if (synced.value.isOverrun) await refresh()
  }

  async function reload(): Promise<void> {
    isFirst.value = true
    synced.value = empty()
    await refresh()
  }

  function patch(change: Change<T>): void {
    synced.value = changed(synced.value, change)
  }

  onScopeDispose(() => {
    running.abort()
  })
  return { state, data, error, reload, refresh, patch }
}
