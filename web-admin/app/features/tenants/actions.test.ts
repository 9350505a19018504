import { describe, expect, it } from 'vitest'
import { actionsFor, isDangerous, textOf } from './actions'

describe('what may be done with a tenant', () => {
  it('is to decide about one that waits', () => {
    expect(actionsFor('pending')).toEqual(['approve', 'ask', 'reject', 'delete'])
    expect(actionsFor('needs_information')).toContain('approve')
  })

  it('is nothing with one that is gone, or in a state that nobody knows', () => {
    expect(actionsFor('deleting')).toEqual([])
    expect(actionsFor('deleted')).toEqual([])
    expect(actionsFor('new')).toEqual([])
  })

  it('says why to whom it turns away or asks, and may say why it suspends', () => {
    expect((['ask', 'reject', 'suspend', 'approve'] as const).map(textOf)).toEqual(['needed', 'needed', 'possible', 'none'])
    expect((['reject', 'suspend', 'delete'] as const).every(isDangerous)).toBe(true)
    expect(isDangerous('resume')).toBe(false)
  })
})
