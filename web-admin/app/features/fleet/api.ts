/** All tenants' instances, as operators see them. */

import { api } from '../../api/api'
import type { Instance, Page } from '../../api/types'

/** The server's largest page: what is filtered is what was read. */
const PAGE_SIZE = 200

export function listFleet(cursor: string | null, signal: AbortSignal): Promise<Page<Instance>> {
  return api.get('/instances', { query: { cursor, limit: PAGE_SIZE }, signal })
}
