/** How queues stand, as people read it. */

import type { Tone } from '../../ui/tone'
import type { Replayed, Work } from './api'

/** Work that is due waits for a worker, which is there within a second or two. */
const SLOW_S = 30
const STUCK_S = 300

export function toneOfWork({ failing, age_s: ageS }: Work): Tone {
  if ((ageS ?? 0) >= STUCK_S) return 'bad'
  if (failing > 0 || (ageS ?? 0) >= SLOW_S) return 'warning'
  return 'good'
}

/** The word for that tone. */
export function wordOfWork(work: Work): 'stuck' | 'failing' | 'slow' | 'well' {
  if ((work.age_s ?? 0) >= STUCK_S) return 'stuck'
  if (work.failing > 0) return 'failing'
  return toneOfWork(work) === 'warning' ? 'slow' : 'well'
}

const UNITS = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
] as const

/** A length of time in the largest unit that it fills. */
export function describeAge(seconds: number | null, language: string): string {
  if (seconds === null) return '—'
  const [unit, size] = UNITS.find(([, each]) => seconds >= each) ?? (['second', 1] as const)
  return new Intl.NumberFormat(language, { style: 'unit', unit, unitDisplay: 'long' }).format(Math.floor(seconds / size))
}

/** How many of what was replayed were taken, and how many are dead again. */
export function countReplayed(done: readonly Replayed[]): { taken: number; left: number } {
  const left = done.filter(({ became }) => became === 'rejected' || became === 'refused').length
  return { taken: done.length - left, left }
}
