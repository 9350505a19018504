import { describe, expect, it } from 'vitest'
import { nextMatch } from './useLog'

describe('nextMatch', () => {
  it('goes round in both directions', () => {
    expect(nextMatch([3, 5, 9], null, 1)).toBe(3)
    expect(nextMatch([3, 5, 9], null, -1)).toBe(9)
    expect(nextMatch([3, 5, 9], 9, 1)).toBe(3)
    expect(nextMatch([3, 5, 9], 3, -1)).toBe(9)
    expect(nextMatch([3, 5, 9], 5, 1)).toBe(9)
    expect(nextMatch([3, 5, 9], 5, -1)).toBe(3)
  })

  it('goes on from a match that fell out', () => {
    expect(nextMatch([3, 5, 9], 4, 1)).toBe(5)
    expect(nextMatch([3, 5, 9], 4, -1)).toBe(3)
    expect(nextMatch([], 4, 1)).toBeNull()
  })
})
