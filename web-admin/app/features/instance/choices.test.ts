import { describe, expect, it } from 'vitest'
import type { Instance } from '../../api/types'
import { actionsFor, needsAsking } from './choices'

const instance = (desired: string, asleepAt: string | null = null) =>
  ({ desired, asleep_at: asleepAt }) as Instance

describe('actionsFor', () => {
  it('starts what does not run, and what sleeps', () => {
    expect(actionsFor(instance('stopped'))).toEqual(['start', 'delete'])
    expect(actionsFor(instance('running', '2026-01-01T00:00:00Z'))).toEqual(['start', 'delete'])
  })

  it('offers nothing for what is being removed', () => {
    expect(actionsFor(instance('deleted'))).toEqual([])
  })

  it('asks before everything that interrupts the bot', () => {
    expect(actionsFor(instance('running')).every(needsAsking)).toBe(true)
    expect(needsAsking('start')).toBe(false)
  })
})
