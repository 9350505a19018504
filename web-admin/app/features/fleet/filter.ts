/** Which of the instances are shown: in the address, so that a view can be sent to a colleague. */

import type { LocationQuery } from 'vue-router'

export const DRIFTS = ['any', 'generation', 'configuration', 'objects'] as const
export const PHASES = [
  'pending',
  'starting',
  'configuring',
  'connecting',
  'running',
  'degraded',
  'crash_loop',
  'stopping',
  'stopped',
  'hibernated',
  'deleting',
] as const
export type Drift = (typeof DRIFTS)[number]
export type Phase = (typeof PHASES)[number]

/** Empty is everything. */
export interface FleetFilter {
  phase: Phase | ''
  drift: Drift | ''
  /** A release by its number; 0 is for those without one. */
  release: string
  tenant: string
  named: string
  suspended: boolean
}

/** What an address says; words that there are not are left out. */
export function filterFrom(query: LocationQuery): FleetFilter {
  const text = (name: string) => (typeof query[name] === 'string' ? query[name] : '')
  const release = text('release')
  return {
    phase: PHASES.find((each) => each === text('phase')) ?? '',
    drift: DRIFTS.find((each) => each === text('drift')) ?? '',
    release: /^\d{1,9}$/.test(release) ? release : '',
    tenant: text('tenant'),
    named: text('named'),
    suspended: text('suspended') === 'true',
  }
}

/** What the address says of it. */
export function queryOf({ suspended, ...words }: FleetFilter): Record<string, string> {
  const given = Object.entries({ ...words, suspended: suspended ? 'true' : '' })
  return Object.fromEntries(given.filter(([, value]) => value !== ''))
}

export function isFiltered(filter: FleetFilter): boolean {
  return Object.keys(queryOf(filter)).length > 0
}
