import { describe, expect, it } from 'vitest'
import type { Replayed, Work } from './api'
import { countReplayed, describeAge, toneOfWork, wordOfWork } from './standing'

const work = (age: number | null, failing = 0) => ({ age_s: age, failing }) as Work

describe('how work stands', () => {
  it.each([
    [work(null), 'good', 'well'],
    [work(2), 'good', 'well'],
    [work(2, 1), 'warning', 'failing'],
    [work(30), 'warning', 'slow'],
    [work(300, 1), 'bad', 'stuck'],
  ])('%o is %s: %s', (each, tone, word) => {
    expect([toneOfWork(each), wordOfWork(each)]).toEqual([tone, word])
  })
})

describe('an age', () => {
  it('is in the largest unit that it fills', () => {
    expect(describeAge(null, 'en')).toBe('—')
    expect(describeAge(0.4, 'en')).toBe('0 seconds')
    expect(describeAge(119, 'en')).toBe('1 minute')
    expect(describeAge(7_300, 'en')).toBe('2 hours')
    expect(describeAge(200_000, 'zh-CN')).toBe('2天')
  })
})

describe('what was replayed', () => {
  it('was taken, unless it is dead again', () => {
    const became = (...words: string[]) => words.map((each) => ({ became: each }) as Replayed)
    expect(countReplayed(became('waiting', 'stored', 'duplicate', 'rejected', 'refused'))).toEqual({ taken: 3, left: 2 })
  })
})
