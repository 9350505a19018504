/** True once something has been true for a while without a break. */

import { onScopeDispose, readonly, ref, watch } from 'vue'
import type { Ref } from 'vue'

export function useHeld(source: Readonly<Ref<boolean>>, afterMs: number): Readonly<Ref<boolean>> {
  const isHeld = ref(false)
  let timer: ReturnType<typeof setTimeout> | undefined

  watch(
    source,
    (isTrue) => {
      clearTimeout(timer)
      if (!isTrue) isHeld.value = false
      else timer = setTimeout(() => (isHeld.value = true), afterMs)
    },
    { immediate: true },
  )
  onScopeDispose(() => {
    clearTimeout(timer)
  })
  return readonly(isHeld)
}
