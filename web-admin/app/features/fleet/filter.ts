/** Which of the instances that were read are shown. */

import type { Instance } from '../../api/types'

export interface FleetFilter {
  phase: string
  /** Only where what is seen is behind what was asked for. */
  isDrifted: boolean
  text: string
}

export function isBehind({ generation, observed_generation: observed }: Instance): boolean {
  return observed < generation
}

export function filtered(instances: readonly Instance[], { phase, isDrifted, text }: FleetFilter): Instance[] {
  const sought = text.trim().toLowerCase()
  return instances.filter(
    (instance) =>
      (phase === '' || instance.phase === phase) &&
      (!isDrifted || isBehind(instance)) &&
      [instance.name, instance.id, instance.tenant_id].some((each) => each.toLowerCase().includes(sought)),
  )
}

/** The phases that occur, with how many have each, most of them first. */
export function phasesOf(instances: readonly Instance[]): { phase: string; count: number }[] {
  const counts = new Map<string, number>()
  for (const { phase } of instances) counts.set(phase, (counts.get(phase) ?? 0) + 1)
  return [...counts].map(([phase, count]) => ({ phase, count })).toSorted((one, other) => other.count - one.count)
}
