/** A tenant's own quotas as they are entered: what is empty is as the plan says. */

import type { QuotaPatch } from './api'

export const COUNTS = [
  'instances',
  'channels',
  'members',
  'messages_month',
  'storage_bytes',
  'pod_cpu',
  'pod_memory',
  'hibernate_after',
] as const
export type Count = (typeof COUNTS)[number]
export type Entered = Record<Count, string>

/** What is typed in a field that counts bytes; null elsewhere, and for what is no number. */
export function bytesIn(name: Count, text: string): number | null {
  const counts = name.endsWith('_bytes') || name === 'pod_memory'
  return counts && /^\d+$/.test(text.trim()) ? Number(text) : null
}

export function enteredFrom(overrides: QuotaPatch): Entered {
  return Object.fromEntries(COUNTS.map((name) => [name, overrides[name]?.toString() ?? ''])) as Entered
}

/** What no field shows stays as it was. */
export function overridesFrom(entered: Entered, before: QuotaPatch): QuotaPatch {
  const counts = Object.fromEntries(
    COUNTS.map((name) => [name, entered[name].trim() === '' ? null : Number(entered[name])]),
  )
  return { ...before, ...counts }
}

export function isEntered(entered: Entered): boolean {
  return COUNTS.every((name) => /^\d*$/.test(entered[name].trim()))
}
