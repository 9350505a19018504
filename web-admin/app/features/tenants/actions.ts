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

/** Whether something must be said with it, which the tenant reads. */
export function needsText(action: TenantAction): boolean {
  return action === 'ask' || action === 'reject'
}

export function isDangerous(action: TenantAction): boolean {
  return action === 'reject' || action === 'suspend' || action === 'delete'
}
