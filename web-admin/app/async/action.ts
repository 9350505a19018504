/** Something a person starts: at most once at a time, its failure kept for showing. */

import { ref, shallowRef } from 'vue'
import type { Ref, ShallowRef } from 'vue'
import { ApiError } from '../api/problem'

export interface Action<A extends unknown[]> {
  isRunning: Ref<boolean>
  error: ShallowRef<ApiError | null>
  /** True when it succeeded. */
  run: (...args: A) => Promise<boolean>
}

export function useAction<A extends unknown[]>(perform: (...args: A) => Promise<void>): Action<A> {
  const isRunning = ref(false)
  const error = shallowRef<ApiError | null>(null)

  async function run(...args: A): Promise<boolean> {
    if (isRunning.value) return false
    isRunning.value = true
    error.value = null
    try {
      await perform(...args)
      return true
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure
      error.value = failure
      return false
    } finally {
      isRunning.value = false
    }
  }

  return { isRunning, error, run }
}
