/** What may be done with a tenant in a state; the server has the last word. */

import type { TenantAction } from './api'

const ACTIONS: Record<string, TenantAction[]> = {
  pending: ['approve', 'ask', 'reject', 'delete'],
  needs_information: ['approve', 'reject', 'delete'],
  rejected: ['approve', 'delete'],
  active: ['suspend', 'delete'],
  suspended: ['resume', 'delete'],
}

export function actionsFor(state: string): TenantAction[] {
  return ACTIONS[state] ?? []
}

/** Whether something must or may be said with it, which the tenant reads. */
export function textOf(action: TenantAction): 'needed' | 'possible' | 'none' {
  if (action === 'ask' || action === 'reject') return 'needed'
  return action === 'suspend' ? 'possible' : 'none'
}

export function isDangerous(action: TenantAction): boolean {
  return action === 'reject' || action === 'suspend' || action === 'delete'
}
