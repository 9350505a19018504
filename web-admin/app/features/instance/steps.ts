/** How far an instance has come, from its conditions: each step needs the ones before it. */

import type { Condition } from '../../api/types'

const ORDER = ['WorkloadRunning', 'AgentConnected', 'ConfigApplied', 'ChannelConnected'] as const

export type StepState = 'done' | 'current' | 'ahead'

export interface Step {
  type: (typeof ORDER)[number]
  state: StepState
  condition: Condition | undefined
}

/** The first step that does not hold is the current one; what comes behind it is ahead. */
export function stepsOf(conditions: readonly Condition[]): Step[] {
  const found = ORDER.map((type) => ({ type, condition: conditions.find((each) => each.type === type) }))
  const current = found.findIndex(({ condition }) => condition?.status !== true)
  return found.map(({ type, condition }, index) => ({ type, condition, state: stateOf(index, current) }))
}

function stateOf(index: number, current: number): StepState {
  if (current === -1 || index < current) return 'done'
  return index === current ? 'current' : 'ahead'
}
