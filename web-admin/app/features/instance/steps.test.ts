import { describe, expect, it } from 'vitest'
import type { Condition } from '../../api/types'
import { restOf, stepsOf } from './steps'

const condition = (type: string, status: boolean, reason = ''): Condition => ({
  type,
  status,
  reason,
  message: '',
  at: '2026-01-01T00:00:00Z',
})
const states = (conditions: Condition[], phase = 'starting') =>
  stepsOf({ phase, conditions }).map(({ state }) => state)

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

  it('says what time alone does not mend', () => {
    expect(states([condition('WorkloadRunning', false, 'crash_loop')], 'crash_loop')[0]).toBe('wrong')
    expect(
      states([condition('WorkloadRunning', true), condition('AgentConnected', true), condition('ConfigApplied', false, 'rejected')])[2],
    ).toBe('wrong')
    expect(states([condition('WorkloadRunning', false, 'starting')])[0]).toBe('current')
  })

  it('has nothing under way in a bot that rests', () => {
    for (const phase of ['stopping', 'stopped', 'hibernated', 'deleting']) {
      expect(new Set(states([condition('WorkloadRunning', false, 'exited')], phase))).toEqual(new Set(['rest']))
    }
  })
})

describe('restOf', () => {
  it('tells a bot that was stopped from one whose company is suspended', () => {
    expect(restOf({ phase: 'stopped', desired: 'stopped' })).toBe('stopped')
    expect(restOf({ phase: 'stopped', desired: 'running' })).toBe('suspended')
    expect(restOf({ phase: 'hibernated', desired: 'running' })).toBe('asleep')
    expect(restOf({ phase: 'running', desired: 'running' })).toBeNull()
  })
})
