/** The tenant's instances and their channels. */

import { api } from '../api/api'
import type { Channel, Instance, Page } from '../api/types'

export type InstanceAction = 'start' | 'stop' | 'restart'

export function listInstances(cursor: string | null, signal: AbortSignal): Promise<Page<Instance>> {
  return api.get('/instances', { query: { cursor }, signal })
}

export function actOnInstance(id: string, action: InstanceAction): Promise<void> {
  return api.post(`/instances/${id}/${action}`)
}

export function listChannels(
  instanceId: string,
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page<Channel>> {
  return api.get(`/instances/${instanceId}/channels`, { query: { cursor }, signal })
}
