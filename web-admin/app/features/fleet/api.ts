/** All tenants' instances, as operators see them, and what they do about one. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Instance, Page } from '../../api/types'
import type { FleetFilter } from './filter'

export type Fleet = Schemas['FleetOut']
export type FleetEvent = Schemas['TimelineOut']
export type FleetAction = 'restart' | 'reconcile' | 'suspend' | 'resume'

export function listFleet(
  { phase, drift, release, tenant, named, suspended }: FleetFilter,
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page<Instance>> {
  const query = {
    cursor,
    phase: phase || null,
    drift: drift || null,
    release: release === '' ? null : Number(release),
    tenant_id: tenant || null,
    named: named || null,
    suspended: suspended ? true : null,
  }
  return api.get('/instances', { query, signal })
}

export function countFleet(signal: AbortSignal): Promise<Fleet> {
  return api.get('/fleet', { signal })
}

export async function actOnFleet(id: string, action: FleetAction, reason: string): Promise<void> {
  const path = { instance_id: id }
  if (action === 'suspend') await api.post('/fleet/{instance_id}/suspend', { path, body: { reason } })
  else await api.post(`/fleet/{instance_id}/${action}`, { path })
}

export function listEvents(id: string, cursor: string | null, signal: AbortSignal): Promise<Page<FleetEvent>> {
  return api.get('/instances/{instance_id}/timeline', { path: { instance_id: id }, query: { cursor }, signal })
}
