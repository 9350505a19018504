/** The tenant itself: its state, what its plan gives, and which operators look into it. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Page, Tenant } from '../../api/types'

export type Quota = Schemas['QuotaOut']
export type Level = Schemas['LevelOut']
export type Support = Schemas['SupportOut']

export function getTenant(id: string, signal: AbortSignal): Promise<Tenant> {
  return api.get('/tenants/{tenant_id}', { path: { tenant_id: id }, signal })
}

export function getQuota(signal: AbortSignal): Promise<Quota> {
  return api.get('/quota', { signal })
}

export async function giveInformation(id: string, text: string): Promise<void> {
  await api.post('/tenants/{tenant_id}/information', { path: { tenant_id: id }, body: { text } })
}

export async function maskNumbers(isMasked: boolean): Promise<void> {
  await api.patch('/tenant', { body: { mask_numbers: isMasked } })
}

export function listSupport(cursor: string | null, signal: AbortSignal): Promise<Page<Support>> {
  return api.get('/support-access', { query: { cursor }, signal })
}

export async function endSupport(id: string): Promise<void> {
  await api.delete('/support-access/{grant_id}', { path: { grant_id: id } })
}
