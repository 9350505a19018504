/** Asks before unsaved work is left behind, inside the dashboard and when the tab closes. */

import { onMounted, onScopeDispose } from 'vue'
import type { Ref } from 'vue'
import { onBeforeRouteLeave } from 'vue-router'

export function useLeaveGuard(isChanged: Readonly<Ref<boolean>>, question: () => string): void {
  function onBeforeUnload(event: BeforeUnloadEvent): void {
    if (isChanged.value) event.preventDefault()
  }

  onBeforeRouteLeave(() => !isChanged.value || window.confirm(question()))
  onMounted(() => {
    window.addEventListener('beforeunload', onBeforeUnload)
  })
  onScopeDispose(() => {
    window.removeEventListener('beforeunload', onBeforeUnload)
  })
}
