/** The platform's plans, for who may change them. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'

export type Plan = Schemas['PlanOut']
export type PlanIn = Schemas['PlanIn']
export type Quotas = Schemas['Quotas']

export function listPlans(signal: AbortSignal): Promise<Plan[]> {
  return api.get('/plans', { signal })
}

export async function createPlan(plan: PlanIn, idempotencyKey: string): Promise<void> {
  await api.post('/plans', { body: plan, idempotencyKey })
}

/** Other terms for every tenant of the plan. */
export async function changePlan({ name, quotas, retention_days: retentionDays }: PlanIn): Promise<void> {
  await api.patch('/plans/{name}', { path: { name }, body: { quotas, retention_days: retentionDays ?? null } })
}
