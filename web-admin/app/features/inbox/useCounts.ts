/** How many conversations are in each view. */

import { onMounted, onScopeDispose } from 'vue'
import { gather } from '../../async/gather'
import { useResource } from '../../async/resource'
import { useEvents, useReload } from '../../realtime/events'
import { getCounts } from './api'

/** Counting costs more than one row; while much happens once in this time will do. */
const GATHER_MS = 500

export function useCounts() {
  const counts = useResource(getCounts)
  const asking = gather(counts.refresh, GATHER_MS)

  useEvents(
    ['message.created', 'conversation.owner_changed', 'conversation.seen', 'note.changed', 'contact.erased'],
    asking.call,
  )
  useReload(asking.call)
  onMounted(counts.reload)
  onScopeDispose(asking.end)
  return counts.data
}
