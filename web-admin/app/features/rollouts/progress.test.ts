import { describe, expect, it } from 'vitest'
import type { Rollout } from './api'
import { actionsFor, progressOf } from './progress'

const rollout = (state: string, members: Record<string, number> = {}) => ({ state, members }) as Rollout

describe('progressOf', () => {
  it('counts those that have the release, those that failed, and all', () => {
    const members = { waiting: 5, moved: 2, good: 3, failed: 1, rolled_back: 4 }
    expect(progressOf(rollout('running', members))).toEqual({ there: 5, failed: 1, total: 15 })
    expect(progressOf(rollout('running'))).toEqual({ there: 0, failed: 0, total: 0 })
  })
})

describe('what may be done with a rollout', () => {
  it('depends on its state, and is nothing once it has ended', () => {
    expect(actionsFor(rollout('running'))).toContain('pause')
    expect(actionsFor(rollout('paused'))).toContain('resume')
    for (const state of ['done', 'aborted', 'rolled_back', 'rolling_back']) expect(actionsFor(rollout(state))).toEqual([])
  })
})
