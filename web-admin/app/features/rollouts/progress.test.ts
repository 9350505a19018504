import { describe, expect, it } from 'vitest'
import type { Rollout } from './api'
import { actionsFor, isAbort, progressOf, wavesOf } from './progress'

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

describe('the waves', () => {
  const rolled = {
    waves: [0, 5, 100],
    wave: 1,
    members_by_wave: [{ good: 1 }, { moved: 2, waiting: 3, failed: 1, rolled_back: 1 }, { waiting: 9 }],
    began: ['2026-01-01T00:00:00Z', '2026-01-01T00:10:00Z'],
    ended_at: null,
  } as unknown as Rollout

  it('tell how far each is', () => {
    expect(wavesOf(rolled)).toEqual([
      { number: 1, share: 0, standing: 'done', waiting: 0, moved: 0, good: 1, failed: 0, began: '2026-01-01T00:00:00Z' },
      { number: 2, share: 5, standing: 'current', waiting: 3, moved: 2, good: 0, failed: 2, began: '2026-01-01T00:10:00Z' },
      { number: 3, share: 100, standing: 'ahead', waiting: 9, moved: 0, good: 0, failed: 0, began: null },
    ])
  })

  it('that began are over with the rollout', () => {
    const standings = wavesOf({ ...rolled, ended_at: '2026-01-01T01:00:00Z' }).map(({ standing }) => standing)
    expect(standings).toEqual(['done', 'done', 'ahead'])
  })
})

describe('an abort', () => {
  it('is whatever ends a rollout', () => {
    expect((['pause', 'resume', 'stay', 'goBack'] as const).filter(isAbort)).toEqual(['stay', 'goBack'])
  })
})
