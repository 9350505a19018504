/** How far an instance has come, from its conditions: each step needs the ones before it. */

import type { Condition, Instance } from '../../api/types'

const ORDER = ['WorkloadRunning', 'AgentConnected', 'ConfigApplied', 'ChannelConnected'] as const
/** Phases in which nothing is on its way up, and nothing is meant to be. */
const AT_REST = new Set(['stopping', 'stopped', 'hibernated', 'deleting', 'deleted'])
/** Reasons that time alone does not mend. */
const WRONG = new Set(['crash_loop', 'ended', 'exited', 'rejected', 'silent', 'cut_off'])

export type StepState = 'done' | 'current' | 'wrong' | 'ahead' | 'rest'

export interface Step {
  type: (typeof ORDER)[number]
  state: StepState
  condition: Condition | undefined
}

/** The first step that does not hold is the current one; what comes behind it is ahead. */
export function stepsOf({ phase, conditions }: Pick<Instance, 'phase' | 'conditions'>): Step[] {
  const found = ORDER.map((type) => ({ type, condition: conditions.find((each) => each.type === type) }))
  if (AT_REST.has(phase)) return found.map((step) => ({ ...step, state: 'rest' }))
  const current = found.findIndex(({ condition }) => condition?.status !== true)
  return found.map((step, index) => ({ ...step, state: stateOf(step.condition, index, current) }))
}

function stateOf(condition: Condition | undefined, index: number, current: number): StepState {
  if (current === -1 || index < current) return 'done'
  if (index > current) return 'ahead'
  return condition && WRONG.has(condition.reason) ? 'wrong' : 'current'
}

/** Why the bot is where it is, where its steps do not say it; a key of the locales. */
export function restOf({ phase, desired }: Pick<Instance, 'phase' | 'desired'>): string | null {
  if (phase === 'hibernated') return 'asleep'
  if (phase === 'deleting' || phase === 'deleted') return 'deleting'
  if (phase !== 'stopped' && phase !== 'stopping') return null
  // It is wanted, and the tenant's state keeps it down.
  return desired === 'running' ? 'suspended' : 'stopped'
}
