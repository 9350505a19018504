import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LogBuffer, MOST_LINES } from './buffer'

const texts = (buffer: LogBuffer) => buffer.shown.map(({ text }) => text)
const lines = (from: number, count: number) => Array.from({ length: count }, (_, index) => `line ${from + index}`)

describe('LogBuffer', () => {
  it('keeps the newest, numbered from the first that ever came', () => {
    const buffer = new LogBuffer(3, 2)
    buffer.add(lines(0, 5))
    expect(texts(buffer)).toEqual(['line 2', 'line 3', 'line 4'])
    expect(buffer.shown.map(({ number }) => number)).toEqual([2, 3, 4])
  })

  it('lets what comes wait while it is paused, and says how many', () => {
    const buffer = new LogBuffer(10, 5)
    buffer.add(lines(0, 2))
    buffer.pause()
    buffer.add(lines(2, 3))
    expect(texts(buffer)).toEqual(lines(0, 2))
    expect(buffer.waiting).toBe(3)
    buffer.resume()
    expect(texts(buffer)).toEqual(lines(0, 5))
    expect(buffer.waiting).toBe(0)
  })

  it('says how many found no room while it was paused', () => {
    const buffer = new LogBuffer(10, 2)
    buffer.pause()
    buffer.add(lines(0, 5))
    expect([buffer.waiting, buffer.lost]).toEqual([5, 3])
    buffer.resume()
    expect(texts(buffer)).toEqual(['line 3', 'line 4'])
    expect(buffer.shown[0]?.number).toBe(3)
  })

  it('never keeps more than it may, whatever happens', () => {
    const step = fc.oneof(fc.nat(9).map((count) => ({ add: count })), fc.constant('pause'), fc.constant('resume'))
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const buffer = new LogBuffer(12, 5)
        for (const each of steps) {
          if (each === 'pause') buffer.pause()
          else if (each === 'resume') buffer.resume()
          else buffer.add(lines(buffer.count, (each as { add: number }).add))
          expect(buffer.shown.length + buffer.waiting - buffer.lost).toBeLessThanOrEqual(12)
          const numbers = buffer.shown.map(({ number }) => number)
          expect(numbers).toEqual(numbers.toSorted((one, other) => one - other))
        }
        buffer.resume()
        expect(buffer.shown.at(-1)?.number ?? -1).toBe(buffer.count - 1)
      }),
    )
  })

  it('holds a hundred thousand', { timeout: 60_000 }, () => {
    const buffer = new LogBuffer()
    buffer.add(lines(0, MOST_LINES + 10))
    expect(buffer.shown).toHaveLength(MOST_LINES)
    expect(buffer.newest(2)).toEqual([`line ${MOST_LINES + 8}`, `line ${MOST_LINES + 9}`])
  })
})
