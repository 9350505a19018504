import { describe, expect, it } from 'vitest'
import { daysBefore, percentOf } from './ratings'

describe('ratings', () => {
  it('count days by the calendar, over months and years', () => {
    expect(daysBefore(new Date(2026, 2, 1, 23, 59), 0)).toBe('2026-03-01')
    expect(daysBefore(new Date(2026, 2, 1), 1)).toBe('2026-02-28')
    expect(daysBefore(new Date(2026, 0, 5), 30)).toBe('2025-12-06')
  })

  it('are shares in whole percent, of nothing too', () => {
    expect(percentOf(2, 3)).toBe(67)
    expect(percentOf(0, 0)).toBe(0)
  })
})
