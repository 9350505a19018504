import { describe, expect, it } from 'vitest'
import { hoursDraftFrom, hoursFrom, hoursProblem, intervalsProblem, officeHours, sameUntilFriday, withInterval } from './hours'
import type { Hours } from './hours'

const late: Hours = {
  time_zone: 'Asia/Shanghai',
  week: { monday: [{ begins: '18:00', ends: '24:00' }] },
  days: [{ date: '2026-10-01', intervals: [] }],
}

describe('hours', () => {
  it('come back as they were, with every weekday', () => {
    const draft = hoursDraftFrom(late)
    expect(draft.week.monday).toEqual([{ begins: '18:00', ends: '00:00' }])
    expect(hoursFrom(draft)).toEqual({ ...late, week: { ...officeHours('').week, ...emptyWeek, ...late.week } })
  })

  it('know what no clock has', () => {
    const at = (begins: string, ends: string) => ({ begins, ends })
    expect(intervalsProblem([at('09:00', '12:00'), at('12:00', '00:00')])).toBeNull()
    expect(intervalsProblem([at('09:00', '')])).toBe('interval_empty')
    expect(intervalsProblem([at('09:00', '09:00')])).toBe('interval_backwards')
    expect(intervalsProblem([at('09:00', '12:00'), at('11:00', '13:00')])).toBe('intervals_overlap')
  })

  it('name each day once', () => {
    const draft = hoursDraftFrom(late)
    draft.days.push({ date: '', intervals: [] })
    expect(hoursProblem(draft)).toBe('day_empty')
    draft.days[1] = { date: '2026-10-01', intervals: [] }
    expect(hoursProblem(draft)).toBe('day_twice')
    draft.days[1] = { date: '2026-10-02', intervals: [] }
    expect(hoursProblem(draft)).toBeNull()
  })

  it('begin with the office, go on behind the last interval, and copy Monday', () => {
    const draft = officeHours('UTC')
    expect(hoursProblem(draft)).toBeNull()
    expect(draft.week.sunday).toEqual([])
    draft.week.monday = withInterval([{ begins: '08:00', ends: '12:00' }])
    sameUntilFriday(draft)
    expect(draft.week.friday).toEqual([{ begins: '08:00', ends: '12:00' }, { begins: '12:00', ends: '00:00' }])
    expect(draft.week.friday).not.toBe(draft.week.monday)
    expect(draft.week.saturday).toEqual([])
    expect(withInterval([])).toHaveLength(1)
  })
})

const emptyWeek = Object.fromEntries(Object.keys(officeHours('').week).map((weekday) => [weekday, []]))
