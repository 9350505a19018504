/** The tenant's instances and their channels. */

import { api } from '../../api/api'
import type { Channel, Instance, Page } from '../../api/types'

export type InstanceAction = 'start' | 'stop' | 'restart'

export function listInstances(cursor: string | null, signal: AbortSignal): Promise<Page<Instance>> {
  return api.get('/instances', { query: { cursor }, signal })
}

export async function actOnInstance(id: string, action: InstanceAction): Promise<void> {
  await api.post(`/instances/{instance_id}/${action}`, { path: { instance_id: id } })
}

export function listChannels(
  instanceId: string,
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page<Channel>> {
  const path = { instance_id: instanceId }
  return api.get('/instances/{instance_id}/channels', { path, query: { cursor }, signal })
}
