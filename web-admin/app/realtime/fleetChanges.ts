/** Keeps an operator's page up to date: asks again when the fleet may look different. */

import { onScopeDispose } from 'vue'
import { api } from '../api/api'
import { gather } from '../async/gather'
import { FleetLink } from './fleetLink'

/** Words of one moment are answered by one question. */
const GATHER_MS = 60

const link = new FleetLink({
  lines: (signal) => api.lines('/fleet/changes', signal),
  random: Math.random,
  pause: (ms, signal) =>
    new Promise((resolve) => {
      setTimeout(resolve, ms)
      signal.addEventListener('abort', () => {
        resolve()
      })
    }),
})

export function useFleetChanges(refresh: () => Promise<void>): void {
  const asking = gather(refresh, GATHER_MS)
  onScopeDispose(link.listen(asking.call))
  onScopeDispose(asking.end)
}
