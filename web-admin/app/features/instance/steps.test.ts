import { describe, expect, it } from 'vitest'
import type { Condition } from '../../api/types'
import { stepsOf } from './steps'

const condition = (type: string, status: boolean): Condition => ({
  type,
  status,
  reason: '',
  message: '',
  at: '2026-01-01T00:00:00Z',
})
const states = (conditions: Condition[]) => stepsOf(conditions).map(({ state }) => state)

describe('stepsOf', () => {
  it('begins with the process when nothing is known', () => {
    expect(states([])).toEqual(['current', 'ahead', 'ahead', 'ahead'])
  })

  it('stands at the first step that does not hold, whatever holds behind it', () => {
    expect(
      states([condition('WorkloadRunning', true), condition('AgentConnected', false), condition('ConfigApplied', true)]),
    ).toEqual(['done', 'current', 'ahead', 'ahead'])
  })

  it('is done when all hold, in whatever order they were told', () => {
    const all = ['ChannelConnected', 'ConfigApplied', 'AgentConnected', 'WorkloadRunning']
    expect(states(all.map((type) => condition(type, true)))).toEqual(['done', 'done', 'done', 'done'])
  })
})
