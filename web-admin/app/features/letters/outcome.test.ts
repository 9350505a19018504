import { describe, expect, it } from 'vitest'
import { countedOutcome } from './outcome'

describe('countedOutcome', () => {
  it('counts what arrived, also before, apart from what was refused again', () => {
    expect(countedOutcome(['stored', 'duplicate', 'waiting', 'rejected', 'conflict', 'refused'])).toEqual({ good: 3, bad: 3 })
    expect(countedOutcome([])).toEqual({ good: 0, bad: 0 })
  })
})
