import { describe, expect, it } from 'vitest'
import { describeTime } from './time'

describe('describeTime', () => {
  const at = new Date(2026, 10, 21, 9, 5)

  it('leaves the day out for today', () => {
    expect(describeTime(at.toISOString(), at.getTime(), 'en')).toBe('09:05')
  })

  it('names the day of an older message', () => {
    const later = new Date(2026, 10, 23).getTime()
    expect(describeTime(at.toISOString(), later, 'en')).toBe('Nov 21, 09:05')
    expect(describeTime(at.toISOString(), later, 'zh-CN')).toBe('11月21日 09:05')
  })

  it('says nothing about a time that it cannot read', () => {
    expect(describeTime('', 0, 'en')).toBe('')
  })
})
