import { describe, expect, it } from 'vitest'
import { actionsFor, isDangerous, needsText } from './actions'

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

  it('says why to whom it turns away or asks', () => {
    expect((['ask', 'reject'] as const).every(needsText)).toBe(true)
    expect(needsText('approve')).toBe(false)
    expect((['reject', 'suspend', 'delete'] as const).every(isDangerous)).toBe(true)
    expect(isDangerous('resume')).toBe(false)
  })
})
