/** What an operator does with tenants. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Page, Tenant } from '../../api/types'

export type TenantState = Schemas['TenantState']
export type QuotaPatch = Schemas['QuotaPatch']
export type Support = Schemas['SupportOut']
/** Decisions, which the address names. */
export type TenantAction = 'approve' | 'ask' | 'reject' | 'suspend' | 'resume' | 'delete'

export const STATES: readonly TenantState[] = [
  'pending',
  'needs_information',
  'active',
  'suspended',
  'rejected',
  'deleting',
  'deleted',
]

export function listTenants(
  state: TenantState | null,
  cursor: string | null,
  signal: AbortSignal,
): Promise<Page<Tenant>> {
  return api.get('/tenants', { query: { cursor, state }, signal })
}

export async function actOnTenant(id: string, action: TenantAction, text: string): Promise<void> {
  const path = { tenant_id: id }
  if (action === 'delete') await api.delete('/tenants/{tenant_id}', { path })
  else if (action === 'ask') await api.post('/tenants/{tenant_id}/ask', { path, body: { question: text } })
  else if (action === 'reject') await api.post('/tenants/{tenant_id}/reject', { path, body: { reason: text } })
  else if (action === 'suspend') await api.post('/tenants/{tenant_id}/suspend', { path, body: text ? { reason: text } : null })
  else await api.post(`/tenants/{tenant_id}/${action}`, { path })
}

export async function changeTenant(id: string, plan: string, overrides: QuotaPatch): Promise<void> {
  await api.patch('/tenants/{tenant_id}', { path: { tenant_id: id }, body: { plan, quota_overrides: overrides } })
}

export function grantSupport(id: string, reason: string, minutes: number): Promise<Support> {
  return api.post('/tenants/{tenant_id}/support', { path: { tenant_id: id }, body: { reason, minutes } })
}

/** One's own looks into tenants, newest first. */
export function listSupport(cursor: string | null, signal: AbortSignal): Promise<Page<Support>> {
  return api.get('/support-access', { query: { cursor }, signal })
}

export async function endSupport(id: string): Promise<void> {
  await api.delete('/support-access/{grant_id}', { path: { grant_id: id } })
}

/** Whether a tenant's bots go first in rollouts. */
export async function isCanary(id: string, signal: AbortSignal): Promise<boolean> {
  const { group } = await api.get('/tenants/{tenant_id}/rollout-group', { path: { tenant_id: id }, signal })
  return group === 'canary'
}

export async function setCanary(id: string, goesFirst: boolean): Promise<void> {
  const body = { group: goesFirst ? ('canary' as const) : ('' as const) }
  await api.put('/tenants/{tenant_id}/rollout-group', { path: { tenant_id: id }, body })
}
