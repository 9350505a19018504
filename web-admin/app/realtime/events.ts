/** Listening to the stream for as long as a page or part is there. */

import { onScopeDispose } from 'vue'
import type { EventType } from './eventTypes'
import type { OnEvent } from './hub'
import { hub } from './live'

export function useEvents(types: readonly EventType[], tell: OnEvent): void {
  onScopeDispose(hub.onEvent(types, tell))
}

/** Called when something was missed and everything shown must be loaded again. */
export function useReload(reload: () => void): void {
  onScopeDispose(hub.onReload(reload))
}
