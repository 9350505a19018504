import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { layOut, rangeOf, rowAt, totalOf } from './layout'

const rows = fc.array(fc.option(fc.integer({ min: 1, max: 400 })), { maxLength: 200 })

function laidOut(heights: (number | null)[]) {
  const keys = heights.map((_, index) => String(index))
  const known = new Map(heights.flatMap((height, index) => (height === null ? [] : [[String(index), height] as const])))
  return layOut(keys, known, 40)
}

describe('layOut', () => {
  it('puts rows one below the other, as high as they are known to be', () => {
    expect([...laidOut([10, null, 30]).offsets]).toEqual([0, 10, 50, 80])
    expect(totalOf(laidOut([]))).toBe(0)
  })

  it('finds the row at every height', () => {
    fc.assert(
      fc.property(rows, fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), (heights, share) => {
        fc.pre(heights.length > 0)
        const layout = laidOut(heights)
        const height = share * totalOf(layout)
        const row = rowAt(layout, height)
        expect(layout.offsets[row]).toBeLessThanOrEqual(height)
        expect(layout.offsets[row + 1]).toBeGreaterThan(height)
      }),
    )
  })

  it('draws all that is seen, and few more', () => {
    fc.assert(
      fc.property(rows, fc.nat(5_000), fc.integer({ min: 1, max: 900 }), (heights, top, height) => {
        const layout = laidOut(heights)
        const { first, end } = rangeOf(layout, top, height, 3)
        heights.forEach((_, row) => {
          const isSeen = (layout.offsets[row] ?? 0) < top + height && (layout.offsets[row + 1] ?? 0) > top
          if (isSeen) expect(row >= first && row < end).toBe(true)
        })
        expect(end - first).toBeLessThanOrEqual(height + 2 + 6)
      }),
    )
  })

  it('is quick for fifty thousand rows: few are drawn', () => {
    const keys = Array.from({ length: 50_000 }, (_, index) => String(index))
    const layout = layOut(keys, new Map(), 60)
    const { first, end } = rangeOf(layout, 1_500_000, 800, 6)
    expect(end - first).toBeLessThanOrEqual(40)
  })
})
