/** A plan while it is edited; pure. */

import { wholeOf } from '../../ui/whole'
import { COUNTS } from '../tenants/overrides'
import type { Count, Entered } from '../tenants/overrides'
import type { Plan, PlanIn } from './api'

export interface Draft {
  name: string
  counts: Entered
  /** One host or network a line. */
  egress: string
  /** Days; empty: as long as the platform keeps anything. */
  retention: string
}

export type DraftProblem = 'name' | 'counts' | 'retention'

const NAME = /^[a-z][a-z0-9-]{0,39}$/
export const RETENTION = { min: 1, max: 36_500 } as const

/** A new one begins with the terms of another. */
export function draftFrom({ name, quotas, retention_days: retentionDays }: Plan): Draft {
  const counts = Object.fromEntries(COUNTS.map((count) => [count, String(quotas[count] ?? 0)])) as Entered
  return { name, counts, egress: quotas.egress_allow?.join('\n') ?? '', retention: retentionDays?.toString() ?? '' }
}

export function problemsOf({ name, counts, retention }: Draft): DraftProblem[] {
  const checks: [DraftProblem, boolean][] = [
    ['name', NAME.test(name.trim())],
    ['counts', COUNTS.every((count) => /^\d+$/.test(counts[count].trim()))],
    ['retention', retention.trim() === '' || wholeOf(retention, RETENTION) !== null],
  ]
  return checks.filter(([, isFine]) => !isFine).map(([problem]) => problem)
}

export function planFrom({ name, counts, egress, retention }: Draft): PlanIn {
  const numbers = Object.fromEntries(COUNTS.map((count) => [count, Number(counts[count])])) as Record<Count, number>
  return {
    name: name.trim(),
    quotas: { ...numbers, egress_allow: egress.split(/[\s,，;；]+/).filter(Boolean) },
    retention_days: wholeOf(retention, RETENTION),
  }
}
