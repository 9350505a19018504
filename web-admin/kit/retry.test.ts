import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { hintedDelay, retryDelay } from './retry'

describe('retryDelay', () => {
  it('stays between half a second and twenty, and reaches both', () => {
    fc.assert(
      fc.property(fc.nat(200), fc.double({ min: 0, max: 1, noNaN: true }), (failures, chance) => {
        const delay = retryDelay(failures, () => chance)
        expect(delay).toBeGreaterThanOrEqual(500)
        expect(delay).toBeLessThanOrEqual(20_000)
      }),
    )
    expect(retryDelay(0, () => 0)).toBe(500)
    expect(retryDelay(0, () => 1)).toBe(1_000)
    expect(retryDelay(9, () => 1)).toBe(20_000)
  })
})

describe('hintedDelay', () => {
  it('is what a restarting server asks for, with a little more', () => {
    expect(hintedDelay(1012, 'restarting, again in 3.2 s', () => 0)).toBe(3_200)
    expect(hintedDelay(1012, 'restarting, again in 3.2 s', () => 1)).toBe(3_700)
    expect(hintedDelay(1012, 'restarting, again in 999 s', () => 0)).toBe(20_000)
  })

  it.each([
    [1012, ''],
    [1012, 'restarting, again in ages s'],
    [1006, 'restarting, again in 3 s'],
    [4410, 'again in 3 s'],
  ])('is nothing for %i %s', (code, reason) => {
    expect(hintedDelay(code, reason, () => 0)).toBeNull()
  })
})
