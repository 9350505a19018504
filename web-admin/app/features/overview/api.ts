/** The tenant's instances. */

import { api } from '../../api/api'
import type { Instance, Page } from '../../api/types'

export function listInstances(cursor: string | null, signal: AbortSignal): Promise<Page<Instance>> {
  return api.get('/instances', { query: { cursor }, signal })
}
