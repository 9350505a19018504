/** Keeps a page up to date: it asks again when the stream tells of something that it shows. */

import { onScopeDispose } from 'vue'
import type { EventType } from '../realtime/eventTypes'
import type { StreamEvent } from '../realtime/frames'
import { useEvents, useReload } from '../realtime/events'
import { gather } from './gather'

/** Events of one moment are answered by one question. */
const GATHER_MS = 60

export function useChanges(
  types: readonly EventType[],
  refresh: () => Promise<void>,
  concerns: (event: StreamEvent) => boolean = () => true,
): void {
  const asking = gather(refresh, GATHER_MS)
  useEvents(types, (event) => {
    if (concerns(event)) asking.call()
  })
  useReload(asking.call)
  onScopeDispose(asking.end)
}
