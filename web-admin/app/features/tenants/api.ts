/** What an operator does with tenants. */

import { api } from '../../api/api'
import type { Page, Tenant } from '../../api/types'

export type TenantAction = 'approve' | 'reject' | 'suspend' | 'resume'

/** What may be done with a tenant in a state; the server has the last word. */
export const ACTIONS: Record<string, TenantAction[]> = {
  pending: ['approve', 'reject'],
  active: ['suspend'],
  suspended: ['resume'],
}

export function listTenants(cursor: string | null, signal: AbortSignal): Promise<Page<Tenant>> {
  return api.get('/tenants', { query: { cursor }, signal })
}

export async function actOnTenant(id: string, action: TenantAction, reason: string): Promise<void> {
  const path = { tenant_id: id }
  if (action === 'reject') await api.post('/tenants/{tenant_id}/reject', { path, body: { reason } })
  else await api.post(`/tenants/{tenant_id}/${action}`, { path })
}
