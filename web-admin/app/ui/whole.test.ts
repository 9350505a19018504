import { describe, expect, it } from 'vitest'
import { wholeOf } from './whole'

describe('wholeOf', () => {
  const bounds = { min: 1, max: 200 }

  it('takes whole numbers within the bounds', () => {
    expect(wholeOf('1', bounds)).toBe(1)
    expect(wholeOf(' 200 ', bounds)).toBe(200)
  })

  it.each(['', '0', '201', '1.5', '1e2', '-3', 'five', '12345678901'])('does not take %j', (text) => {
    expect(wholeOf(text, bounds)).toBeNull()
  })
})
