import { describe, expect, it } from 'vitest'
import { describeAmount } from './amount'

describe('describeAmount', () => {
  it('groups the digits of a count', () => {
    expect(describeAmount(12_345, false, 'en')).toBe('12,345')
  })

  it('gives bytes a unit that leaves few digits', () => {
    expect(describeAmount(0, true, 'en')).toBe('0 byte')
    expect(describeAmount(1_536, true, 'en')).toBe('1.5 kB')
    expect(describeAmount(5 * 1_024 ** 3, true, 'en')).toBe('5 GB')
    expect(describeAmount(3 * 1_024 ** 5, true, 'en')).toBe('3,072 TB')
  })
})
