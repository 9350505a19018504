/** What waits on the whole platform: numbers, and no word of anybody's. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'

export type Queues = Schemas['QueuesOut']
export type Work = Schemas['KindOut']
export type DeadLetters = Schemas['DeadLettersOut']
export type Replayed = Schemas['ReplayedOneOut']

/** The most that one call replays; more are replayed by the next. */
const AT_ONCE = 100

export function listQueues(signal: AbortSignal): Promise<Queues> {
  return api.get('/queues', { signal })
}

/** Deals with all of them once more, oldest first. */
export async function replayAll({ tenant_id: tenantId, source, reason }: DeadLetters): Promise<Replayed[]> {
  const done: Replayed[] = []
  let cursor: string | null = null
  do {
    const page: Schemas['ReplayedManyOut'] = await api.post('/tenants/{tenant_id}/dead-letters/replay', {
      path: { tenant_id: tenantId },
      body: { source, reason, cursor, limit: AT_ONCE },
    })
    done.push(...page.items)
    cursor = page.next
  } while (cursor !== null)
  return done
}
