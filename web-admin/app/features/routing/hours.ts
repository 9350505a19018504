/** Working hours while they are edited: every weekday is there, and midnight ends a day; pure. */

import type { Schemas } from '../../api/paths'

export type Hours = Schemas['Hours']
export type Interval = Schemas['Interval']

export const WEEKDAYS = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'] as const
export type Weekday = (typeof WEEKDAYS)[number]

/** As many intervals as a day may have. */
export const MAX_INTERVALS = 6

export interface HoursDraft {
  time_zone: string
  week: Record<Weekday, Interval[]>
  days: { date: string; intervals: Interval[] }[]
}

export type HoursProblem = 'interval_empty' | 'interval_backwards' | 'intervals_overlap' | 'day_empty' | 'day_twice'

/** The end of a day: fields for times of day have no 24:00. */
const MIDNIGHT = '00:00'
const DAY_END = '24:00'
const OFFICE: Interval = { begins: '09:00', ends: '18:00' }

export function hoursDraftFrom({ time_zone, week, days }: Hours): HoursDraft {
  return {
    time_zone,
    week: byWeekday((weekday) => (week[weekday] ?? []).map(shown)),
    days: (days ?? []).map(({ date, intervals }) => ({ date, intervals: (intervals ?? []).map(shown) })),
  }
}

export function hoursFrom({ time_zone, week, days }: HoursDraft): Hours {
  return {
    time_zone,
    week: byWeekday((weekday) => week[weekday].map(sent)),
    days: days.map(({ date, intervals }) => ({ date, intervals: intervals.map(sent) })),
  }
}

/** Where somebody begins: office hours on five days. */
export function officeHours(timeZone: string): HoursDraft {
  return {
    time_zone: timeZone,
    week: byWeekday((weekday) => (['saturday', 'sunday'].includes(weekday) ? [] : [{ ...OFFICE }])),
    days: [],
  }
}

/** Another interval behind the last one. */
export function withInterval(intervals: readonly Interval[]): Interval[] {
  const last = intervals.at(-1)
  return [...intervals, last ? { begins: last.ends, ends: MIDNIGHT } : { ...OFFICE }]
}

/** What is done on Monday is done until Friday. */
export function sameUntilFriday(draft: HoursDraft): void {
  for (const weekday of WEEKDAYS.slice(1, 5)) draft.week[weekday] = draft.week.monday.map((each) => ({ ...each }))
}

export function intervalsProblem(intervals: readonly Interval[]): HoursProblem | null {
  let end = ''
  for (const { begins, ends } of intervals.map(sent)) {
    if (begins === '' || ends === '') return 'interval_empty'
    if (ends <= begins) return 'interval_backwards'
    if (begins < end) return 'intervals_overlap'
    end = ends
  }
  return null
}

export function hoursProblem({ week, days }: HoursDraft): HoursProblem | null {
  const all = [...WEEKDAYS.map((weekday) => week[weekday]), ...days.map(({ intervals }) => intervals)]
  const wrong = all.map(intervalsProblem).find((problem) => problem !== null)
  if (wrong) return wrong
  const dates = days.map(({ date }) => date)
  if (dates.includes('')) return 'day_empty'
  return new Set(dates).size < dates.length ? 'day_twice' : null
}

function byWeekday(of: (weekday: Weekday) => Interval[]): Record<Weekday, Interval[]> {
  return Object.fromEntries(WEEKDAYS.map((weekday) => [weekday, of(weekday)])) as Record<Weekday, Interval[]>
}

function shown({ begins, ends }: Interval): Interval {
  return { begins, ends: ends === DAY_END ? MIDNIGHT : ends }
}

/** Some browsers' fields give null when they are emptied. */
function sent({ begins, ends }: Interval): Interval {
  return { begins: begins || '', ends: ends === MIDNIGHT ? DAY_END : ends || '' }
}
