import { describe, expect, it } from 'vitest'
import type { Plan } from './api'
import { draftFrom, planFrom, problemsOf } from './draft'

const PLAN: Plan = {
  name: 'standard',
  quotas: {
    instances: 10,
    channels: 50,
    members: 50,
    messages_month: 50_000,
    storage_bytes: 2 ** 34,
    pod_cpu: 500,
    pod_memory: 2 ** 28,
    egress_allow: ['*.lan', '10.0.0.0/8'],
    hibernate_after: 0,
  },
  retention_days: 90,
  created_at: '2026-01-01T00:00:00Z',
  updated_at: '2026-01-01T00:00:00Z',
}

describe('a plan that is edited', () => {
  const draft = draftFrom(PLAN)
  const withCounts = (counts: Partial<typeof draft.counts>) => ({ ...draft, counts: { ...draft.counts, ...counts } })

  it('comes back as it was', () => {
    const { name, quotas, retention_days: retentionDays } = PLAN
    expect(problemsOf(draft)).toEqual([])
    expect(planFrom(draft)).toEqual({ name, quotas, retention_days: retentionDays })
  })

  it('keeps what was said without an end where no days are entered', () => {
    expect(planFrom({ ...draft, retention: ' ' }).retention_days).toBeNull()
  })

  it('is told what is wrong with it', () => {
    expect(problemsOf({ ...draft, name: 'Large Plan' })).toEqual(['name'])
    expect(problemsOf({ ...draft, retention: '0' })).toEqual(['retention'])
    expect(problemsOf(withCounts({ members: '' }))).toEqual(['counts'])
    expect(problemsOf(withCounts({ channels: '1.5' }))).toEqual(['counts'])
  })

  it('takes hosts however they are set apart', () => {
    expect(planFrom({ ...draft, egress: 'a.lan, b.lan\n\nc.lan' }).quotas.egress_allow).toEqual(['a.lan', 'b.lan', 'c.lan'])
  })
})
