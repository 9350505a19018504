import { describe, expect, it } from 'vitest'
import { endOfDay, startOfDay } from './time'

describe('endOfDay', () => {
  it('is the last second of that day where the reader is', () => {
    const end = new Date(endOfDay('2026-03-01') ?? '')
    expect([end.getFullYear(), end.getMonth(), end.getDate(), end.getHours(), end.getSeconds()]).toEqual([2026, 2, 1, 23, 59])
  })

  it('is nothing where no day was chosen', () => {
    expect(endOfDay('')).toBeNull()
  })
})

describe('startOfDay', () => {
  it('is midnight where the reader is', () => {
    expect(new Date(startOfDay('2026-03-01') ?? '').getHours()).toBe(0)
    expect(startOfDay('')).toBeNull()
  })
})
